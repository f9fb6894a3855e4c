"""Trains the two small SentencePiece models beside this file. Run it again only to change them.

`tiny-gemma.model` has what a Gemma vocabulary has: no space before a text, byte fallback, and user-defined pieces of
three kinds (turn markers and the like, HTML tags, runs of white space). `tiny-llama.model` has Llama's settings.
The training text is made up from the word lists below with a fixed seed.
"""

import io
import random
from pathlib import Path

import sentencepiece

FOLDER = Path(__file__).parent
MARKERS = ["<mask>", "[multimodal]", *(f"<unused{i}>" for i in range(8)), "<start_of_turn>", "<end_of_turn>"]
TAGS = ["<table>", "</table>", "<h1>", "</h1>", "<s>", "</s>", "<code>", "<bbox>"]
RUNS = [*("\n" * n for n in range(1, 9)), *("\u2581" * n for n in range(2, 9)), *("\t" * n for n in range(2, 9))]

NOUNS = "house river planet model garden winter letter number teacher engine island mountain answer question".split()
VERBS = "sees makes gives holds reads writes takes finds opens follows".split()
OTHERS = "the a this every their small great old new and or of in with from to is was".split()
FOREIGN = "der Fluss ist lang, été à la mer, привет мир, 你好世界, こんにちは, 😀 ok".split(" ")


def sentences(count: int) -> list[str]:
    """Made-up sentences."""
    rng = random.Random(20)
    made = []
    for _ in range(count):
        words = [rng.choice(rng.choice((NOUNS, VERBS, OTHERS, OTHERS))) for _ in range(rng.randrange(4, 12))]
        if rng.random() < 0.2:
            words.append(rng.choice(FOREIGN))
        made.append(" ".join(words).capitalize() + rng.choice((".", "?", "!", f" {rng.randrange(2000)}.")))
    return made


def train(name: str, vocab_size: int, **options: object) -> None:
    """One byte-pair model with byte fallback."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences(4000)),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=0.9995,
        num_threads=1,
        **options,
    )
    (FOLDER / name).write_bytes(model.getvalue())


if __name__ == "__main__":
    gemma_ids = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3}
    gemma_names = {"pad_piece": "<pad>", "eos_piece": "<eos>", "bos_piece": "<bos>"}
    train(
        "tiny-gemma.model",
        700,
        add_dummy_prefix=False,
        allow_whitespace_only_pieces=True,
        user_defined_symbols=MARKERS + RUNS + TAGS,
        **gemma_ids,
        **gemma_names,
    )
    train("tiny-llama.model", 600, add_dummy_prefix=True)
