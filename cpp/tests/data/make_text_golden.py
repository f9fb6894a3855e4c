"""What C++ must make of texts, conversations and logits: text.json, written by the Python side and by sentencepiece.

python cpp/tests/data/make_text_golden.py            writes it
python cpp/tests/data/make_text_golden.py --check    compares and writes nothing
"""

from __future__ import annotations

import itertools
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from gemcut.interfaces import SamplingOptions
from gemcut.model import sampling_host
from gemcut.model.sampling import SamplingVariant, sampling_arrays
from gemcut.text import Tokenizer, TokenizerSettings, chat_template_for
from gemcut.text.special_tokens import is_marker
from gemcut.text.tokenizer import BYTE_ERRORS

TARGET = Path(__file__).resolve().parent / "text.json"
MODELS = Path(__file__).resolve().parents[3] / "tests" / "text" / "data"
ALPHABETS = ("abc XYZ", "the ", "\n\t  ", "0123456789.,", "äöüßéèñ", "привет мир", "漢字 你好世界", "العربية",
             "😀👩\u200d👩🇩🇪", "<>[]/|_", "\u2581\u00a0\ufeff\x00\x7f\u0300\r", "𝒳𐍈🫠")  # fmt: skip
WORDS = "The small river was in a great garden of the island . der Fluss ist lang, été à la mer 4096 reads".split()
MARKERS = {
    "tiny-gemma": [
        "<mask>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<bos>",
        "<bos",
        "unused1>",
        "<table>",
        "[multimodal]",
    ],
    "tiny-llama": ["<s>", "</s>", "<unk>", "<s", "/s>", "[INST]"],
}
PIECES = ["<a>", "</h1>", "<h7>", "<unused7>", "[x]", "[INST>", "<a b>", "<>", "</>", "<//a>", "< >", "<é>", "<\u2003>",
          "<a<b>", "[[x]", "\n\n", "<x", "x>", "[]", "<|tool>"]  # fmt: skip
LONG = {"role": "user", "content": " Is <start_of_turn> <s> text?\n"}, {"role": "assistant", "content": "\u2003Yes. "}
CHATS = [
    [LONG[0]],
    [*LONG, {"role": "user", "content": "<end_of"}],
    [{"role": "system", "content": " Be kind. "}, *LONG, {"role": "user", "content": "_turn> [INST] Bye"}],
    [{"role": "system", "content": ""}, {"role": "user", "content": "\n"}],
]


def main() -> int:
    """Write the file, or say that it differs."""
    golden = {
        "tokens": {name: _tokens(name) for name in MARKERS},
        "settings": _settings(),
        "markers": {piece: is_marker(piece) for piece in PIECES},
        "chats": _chats(),
        "draws": _draws(),
    }
    text = json.dumps(golden, separators=(",", ":")) + "\n"
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write("cpp/tests/data/text.json differs. Run: python cpp/tests/data/make_text_golden.py\n")
    return 1


def _texts(rng: random.Random, count: int) -> list[bytes]:
    """Texts of many scripts, of words, and of any bytes."""
    texts = ["", " ", "  ", "\n", " a", "a ", "\u2581", "a" * 300, " " * 70, "\t" * 20].copy()
    made = [text.encode() for text in texts]
    while len(made) < count:
        kind = rng.randrange(4)
        if kind == 0:
            made.append(bytes(rng.randrange(256) for _ in range(rng.randrange(1, 16))))
        elif kind == 1:
            made.append(" ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 20))).encode())
        else:
            made.append("".join(rng.choice(rng.choice(ALPHABETS)) for _ in range(rng.randrange(1, 40))).encode())
    return made


def _tokens(name: str) -> list[dict[str, Any]]:
    """Texts in hexadecimal, their ids without and with control tokens, and what decoding gives."""
    rng = random.Random(3)
    data = (MODELS / f"{name}.model").read_bytes()
    tokenizer = Tokenizer.from_sentencepiece(data, where=name)
    original = sentencepiece.SentencePieceProcessor(model_proto=data)
    rows = []
    for text in _texts(rng, 110):
        plain = original.encode(text) if b"<" not in text and b"[" not in text else None
        for _ in range(rng.randrange(3)):
            place = rng.randrange(len(text) + 1)
            text = text[:place] + rng.choice(MARKERS[name]).encode() + text[place:]
            plain = None
        shown = text.decode("utf-8", BYTE_ERRORS)
        ids = tokenizer.encode(shown, add_bos=False)
        assert plain is None or plain == ids
        rows.append({
            "text": text.hex(),
            "ids": ids,
            "special": tokenizer.encode(shown, parse_special=True),
            "decoded": tokenizer.decode(ids),
            "continued": tokenizer.decode(ids, continues_prompt=True),
        })  # fmt: skip
    return rows


def _settings() -> list[dict[str, Any]]:
    """What the files beside a vocabulary change, on the tiny Llama vocabulary."""
    rows = []
    for legacy, prefix, add_bos in itertools.product((True, False), (None, False), (None, False)):
        settings = TokenizerSettings(legacy=legacy, add_dummy_prefix=prefix, add_bos=add_bos, bos_token="</s>")
        data = (MODELS / "tiny-llama.model").read_bytes()
        tokenizer = Tokenizer.from_sentencepiece(data, where="x", settings=settings)
        ids = tokenizer.encode("<s>the house</s>the", parse_special=True)
        rows.append({"legacy": legacy, "add_space_prefix": prefix is None, "add_bos": add_bos is None, "ids": ids})
    return rows


def _chats() -> list[dict[str, Any]]:
    """Conversations as each family writes them; ids null where the family has no system role."""
    rows = []
    for name, types in (
        ("tiny-gemma", ("gemma", "gemma2", "gemma3", "gemma3_text")),
        ("tiny-llama", ("llama", "mistral")),
    ):
        tokenizer = Tokenizer.from_sentencepiece((MODELS / f"{name}.model").read_bytes(), where=name)
        for model_type, messages in itertools.product(types, CHATS):
            template = chat_template_for(tokenizer, model_type, where="x")
            assert template is not None
            refused = messages[0]["role"] == "system" and model_type in ("gemma", "gemma2", "mistral")
            ids = None if refused else template.encode(messages)
            rows.append({"model": name, "model_type": model_type, "messages": messages, "ids": ids})
    return rows


def made_up_logits(seed: int, count: int) -> np.ndarray:
    """float32 (count,), numbers that C++ makes too: multiples of 1/256, some of them equal."""
    state, values = seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values.append(((state >> 33) % 4096) / 256 - 8)
    return np.array(values, np.float32)


def _draws() -> list[dict[str, Any]]:
    """Chosen tokens under many options, and log-probabilities."""
    rng = random.Random(4)
    rows = []
    for seed in range(160):
        vocab_size = rng.choice([7, 100, 3000])
        options: dict[str, Any] = {
            "temperature": rng.choice([0.0, 0.25, 1.0, 2.5]),
            "top_k": rng.choice([0, 1, 2, 7, 64, 500]),
            "top_p": rng.choice([1.0, 0.96875, 0.5, 0.125]),
            "min_p": rng.choice([0.0, 0.0, 0.0625, 0.5]),
        }
        if seed % 2:
            options |= {"repetition_penalty": rng.choice([1.0, 1.25, 0.5]), "presence_penalty": rng.choice([0.0, 0.5]),
                        "frequency_penalty": rng.choice([0.0, -0.25, 0.5])}  # fmt: skip
        bias = [(rng.randrange(vocab_size), rng.choice([-4.0, 8.0])) for _ in range(seed % 3)]
        seen = [rng.randrange(vocab_size) for _ in range(rng.randrange(20))]
        mask = made_up_logits(seed + 1000, vocab_size) > 4 if seed % 5 == 0 else None
        if mask is not None:
            mask[seed % vocab_size] = True
        uniforms = [0.0, 0.25, 0.5, 0.9375, 1 - 2**-24]
        rows.append({
            **options, "seed": seed, "vocab_size": vocab_size, "bias": bias, "seen": seen, "answer": seen[3:],
            "masked": mask is not None, "uniforms": uniforms,
            **_chosen(made_up_logits(seed, vocab_size), SamplingOptions(**options, logit_bias=tuple(bias)), seen, mask,
                      uniforms),
        })  # fmt: skip
    return rows


def _chosen(
    logits: np.ndarray, options: SamplingOptions, seen: list[int], mask: np.ndarray | None, uniforms: list[float]
) -> dict[str, Any]:
    """The choice at each uniform; the first one's log-probability, and the two best tokens'."""
    variant = SamplingVariant(draws=True, penalties=options.has_penalties, masked=mask is not None)
    given = None if mask is None else mask[None]
    arrays = sampling_arrays([options], variant, len(logits), [seen], [seen[3:]], given)
    ids = [
        int(sampling_host.choose_tokens(logits[None], arrays, np.array([uniform], np.float32), variant)[0])
        for uniform in uniforms
    ]
    logprob, _, best = sampling_host.top_logprobs(logits[None], np.array(ids[:1]), 2)
    return {"ids": ids, "logprob": round(float(logprob[0]), 5), "best": [round(float(x), 5) for x in best[0]]}


if __name__ == "__main__":
    sys.exit(main())
