"""Write the training data of the starter's instruction-following adapter.

    python recipes/starter_it/write_data.py OUT.jsonl [--data DIR] [--texts N] [--seed N]

What goes in, each line of the file one conversation in OpenAI's form:

- chats.jsonl beside this file: short exchanges written for this recipe;
- the self-instruct seed tasks and the shorter ones of the T0 sample (Apache-2.0; `instructions`), the training splits
  of GSM8K (MIT) and ARC (CC BY-SA), out of DIR: parts that their keepers mean for training;
- texts that the base model writes itself for the requests of writing_requests.py: what is learnt from them is when and
  in which form to write, not what;
- of all longer answers and some short ones, copies that fulfil wishes about their form (constraints.py).

No request may share eight words in a row with a prompt of IFEval or of the held-out requests; those that do are dropped
and counted. The texts are kept beside OUT, so a second run writes none anew.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import langdetect
from constraints import Plain, asked, constrained, sentences, words
from wordings import say
from writing_requests import LANGUAGES, Request, requests

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "shared" / "datasets"
HELD_OUT = Path("instructions", "user_oriented.jsonl.gz")
SHINGLE = 8
MAX_TOKENS, BATCH = 160, 64
FAMILY_LIMITS = {"common_gen": 25, "dbpedia": 15, "paws": 6, "quarel": 10, "quartz": 8, "qasc": 8, "wiki_bio_who": 30}
MAX_PROMPT_CHARACTERS = 700
NUM_GSM8K, NUM_GSM8K_WISHES, NUM_ARC, NUM_CHOICES, NUM_SHORT = 300, 150, 200, 250, 300
WISHES = (1, 1, 1, 1, 2, 2, 3)  # of one plain answer: how many each of its copies has
SHORT_WISHES = (1, 1, 2)
PHRASES = (
    ("Yes, it is.", "No, it is not.", "Perhaps it is."), ("I say yes.", "I say no.", "I cannot say."),
    ("That is right.", "That is wrong.", "That is open."),
)  # fmt: skip


def main() -> None:
    """Read, generate, write and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the data sets")
    parser.add_argument("--texts", type=int, default=700, help="texts that the base model writes")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    langdetect.DetectorFactory.seed = arguments.seed
    written = texts_of_base(arguments.out.with_suffix(".texts.jsonl"), arguments.texts, arguments.seed)
    parts: dict[str, list[tuple[str, str]]] = {
        "chats": [(each["user"], each["assistant"]) for each in read(HERE / "chats.jsonl")] * 2,
        "seed tasks": list(seed_tasks(arguments.data)),
        "t0": list(t0(arguments.data, draw)),
        "gsm8k": list(gsm8k(arguments.data, draw)),
        "arc": list(arc(arguments.data, draw)),
        "choices": list(choices(arguments.data, draw)),
        "texts": [(plain.request, plain.answer) for plain in written],
    }
    plains = [*written, *(plain for name in ("seed tasks", "chats") for plain in longer(parts[name]))]
    plains += draw.sample(list(longer(parts["gsm8k"])), NUM_GSM8K_WISHES)
    short = [
        Plain(prompt, answer, "An Answer")
        for name in ("t0", "arc")
        for prompt, answer in parts[name]
        if len(prompt) < 400
    ]
    parts["wishes"] = list(with_wishes(plains, WISHES, draw))
    parts["short"] = list(with_wishes(draw.sample(short, NUM_SHORT), SHORT_WISHES, draw))
    known = benchmark_shingles(arguments.data)
    rows, dropped = [], 0
    for name, pairs in parts.items():
        kept = [pair for pair in pairs if not shingles(pair[0]) & known]
        dropped += len(pairs) - len(kept)
        rows += kept
        print(
            f"{name:<10} {len(kept):>5} conversations, {sum(len(answer.split()) for _, answer in kept):>7} words learnt"
        )
    draw.shuffle(rows)
    print(f"dropped for sharing {SHINGLE} words with a benchmark's prompt: {dropped}")
    lines = (json.dumps({"messages": [said("user", prompt), said("assistant", answer)]}) for prompt, answer in rows)
    arguments.out.write_text("".join(f"{line}\n" for line in lines))


def said(role: str, content: str) -> dict[str, str]:
    """A message."""
    return {"role": role, "content": content}


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file, gzipped or not."""
    data = path.read_bytes()
    for line in (gzip.decompress(data) if path.suffix == ".gz" else data).decode().split("\n"):
        if line:
            yield json.loads(line)


def seed_tasks(data: Path) -> Iterator[tuple[str, str]]:
    """The self-instruct seed tasks, code and tables left out."""
    for row in read(data / "instructions" / "seed_tasks.jsonl.gz"):
        if "def " not in row["input"] + row["output"] and len(row["output"]) > 3:
            yield request_of(row), row["output"].strip()


def request_of(row: dict[str, Any]) -> str:
    """An instruction and what it is about, as one request."""
    return "\n\n".join(part for part in (row["instruction"], row["input"]) if part)


def held_out_requests(data: Path) -> list[str]:
    """Those that nothing is trained on."""
    return [request_of(row) for row in read(data / HELD_OUT)]


def t0(data: Path, draw: random.Random) -> Iterator[tuple[str, str]]:
    """Of each template some short ones; a lower-case answer of a word or two begins with a capital."""
    by_task = collections.defaultdict(list)
    for row in read(data / "instructions" / "t0_sample.jsonl.gz"):
        by_task[row["task"]].append(row)
    for task, rows in sorted(by_task.items()):
        short = [row for row in rows if len(row["prompt"]) <= MAX_PROMPT_CHARACTERS and row["completion"].strip()]
        if "wiki_bio" in task and task != "wiki_bio_who":
            continue
        limit = next((number for name, number in FAMILY_LIMITS.items() if task.startswith(name)), 6)
        for row in draw.sample(short, min(limit, len(short))):
            answer = row["completion"].strip()
            yield row["prompt"].strip(), answer[0].upper() + answer[1:]


def gsm8k(data: Path, draw: random.Random) -> Iterator[tuple[str, str]]:
    """Word problems with their steps in words and the result at the end."""
    rows = list(read(data / "gsm8k" / "train.jsonl.gz"))
    for row in draw.sample(rows, NUM_GSM8K):
        steps, _, result = re.sub(r"<<.*?>>", "", row["answer"]).partition("\n#### ")
        yield row["question"], f"{steps}\nThe answer is {result}."


def arc(data: Path, draw: random.Random) -> Iterator[tuple[str, str]]:
    """Science questions, answered in the words of the right choice."""
    rows = [row for name in ("arc_easy", "arc_challenge") for row in read(data / name / "train.jsonl.gz")]
    for row in draw.sample([row for row in rows if row["question"].endswith("?")], NUM_ARC):
        answer = row["choices"][row["gold"]].strip()
        if draw.random() < 0.5:
            listed = "\n".join(f"- {choice}" for choice in row["choices"])
            yield f"{row['question']}\n{listed}", answer[0].upper() + answer[1:]
        else:
            yield row["question"], answer[0].upper() + answer[1:] + "." * (not answer.endswith("."))


def choices(data: Path, draw: random.Random) -> Iterator[tuple[str, str]]:
    """Whether an answer to a science question is the right one, in one of three phrases that are given."""
    rows = [row for row in read(data / "arc_easy" / "train.jsonl.gz") if row["question"].endswith("?")]
    for row in draw.sample(rows, NUM_CHOICES):
        place, phrases = draw.randrange(len(row["choices"])), draw.choice(PHRASES)
        listed = draw.choice((", ".join(f"'{phrase}'" for phrase in phrases), "\n" + "\n".join(phrases)))
        asks = draw.choice(
            ("Answer with one of these phrases:", "Choose from:", "Say one of the following, exactly so:")
        )
        yield (
            f"{row['question']} Is it {row['choices'][place].strip(' .')}? {asks} {listed}",
            phrases[place != row["gold"]],
        )


def texts_of_base(path: Path, num_texts: int, seed: int) -> list[Plain]:
    """Answers of the base model, two to each request; those that repeat themselves, break off or are in
    another language are left out.
    """
    if not path.is_file():
        found = requests(seed, num_texts)
        path.write_text("".join(json.dumps(row) + "\n" for row in generated(found, seed)))
    kept = []
    for row in read(path):
        request, answers = Request(**row["request"]), [tidy(text) for text in row["texts"]]
        good = [answer for answer in answers if answer is not None and is_in(request.language, answer)]
        if good:
            text = request.text
            if request.language != "English":
                text = asked(
                    text, [say("language", random.Random(text), language=request.language)], random.Random(seed)
                )
            kept.append(Plain(text, good[0], request.title, good[1] if len(good) > 1 else None))
    return kept


def is_in(language: str, text: str) -> bool:
    """Whether a text is in the language that was asked for; an English one is taken to be."""
    return language == "English" or langdetect.detect(text) == LANGUAGES[language]["code"]


def generated(wanted: list[Request], seed: int) -> Iterator[dict[str, Any]]:
    """What the base model writes for each request."""
    import gemcut

    model = gemcut.load("starter")
    for begin in range(0, len(wanted), BATCH):
        part = wanted[begin : begin + BATCH]
        found = model.generate(
            [each.lead + each.opening for each in part], n=2, max_tokens=MAX_TOKENS, temperature=0.7, top_p=0.9,
            repetition_penalty=1.1, seed=seed + begin,
        )  # fmt: skip
        for request, completions in zip(part, found, strict=True):
            yield {"request": vars(request), "texts": [request.opening + each.text for each in completions]}
        print(f"{begin + len(part)} of {len(wanted)} texts", flush=True)


def tidy(text: str) -> str | None:
    """A generated text up to its last whole sentence; None where it is no text to learn from."""
    text = re.sub(r"\n{3,}", "\n\n", re.sub(r"</?(?:strong|b|em|i|p|br)\s*/?>", "", text)).strip()
    whole = re.match(r"(?s).*(?:[.!?][\"']?(?=\s|$)|[।۔؟])", text)
    if whole is None or re.search(r"https?:|www\.|@|©|<[a-z/]|\||_{3}|#", whole[0]):
        return None
    text = whole[0].strip()
    said_words = [word.lower() for word in words(text)]
    grams = list(zip(said_words, said_words[1:], said_words[2:], strict=False))
    if len(said_words) < 25 or len(set(grams)) < 0.9 * len(grams) or len(set(sentences(text))) < len(sentences(text)):
        return None
    return text


def longer(pairs: Iterable[tuple[str, str]]) -> Iterator[Plain]:
    """Those pairs whose answers are long enough to be given a form."""
    for prompt, answer in pairs:
        if len(sentences(answer)) >= 2 and len(prompt) < 400:
            yield Plain(prompt, answer, " ".join(words(prompt)[:5]).title())


def with_wishes(plains: list[Plain], wishes: tuple[int, ...], draw: random.Random) -> Iterator[tuple[str, str]]:
    """Each request several times, with a wish, or two, or three."""
    for plain in plains:
        for num_wishes in wishes:
            for _ in range(20):
                try:
                    yield constrained(plain, draw, num_wishes)
                    break
                except (ValueError, IndexError):
                    continue  # these wishes do not fit this answer: other ones are drawn


def shingles(text: str) -> set[tuple[str, ...]]:
    """Every run of SHINGLE words."""
    found = [word.lower() for word in words(text)]
    return {tuple(found[begin : begin + SHINGLE]) for begin in range(len(found) - SHINGLE + 1)}


def benchmark_shingles(data: Path) -> set[tuple[str, ...]]:
    """Those of IFEval's prompts and of the held-out requests."""
    prompts = [row["prompt"] for row in read(data / "ifeval" / "input_data.jsonl.gz")]
    for row in read(data / HELD_OUT):
        prompts += [row["instruction"], row["input"]]
    return set().union(*map(shingles, prompts))


if __name__ == "__main__":
    main()
