"""Answer the held-out requests (`instructions/user_oriented`, 252, none trained on) and measure the answers' form.

    python recipes/starter_it/held_out.py OUT.json [--adapter DIR] [--data DIR] [--limit N] [--max-tokens N]

Each request is asked greedily in Gemma's chat template, of the base model and with an adapter of the tuned one. Nobody
grades here; what is counted: answers that end by themselves, answers that repeat themselves (a run of four words comes
three times), and ROUGE-L (F1 of the longest common subsequence of words) against the answer that a person wrote, as
Wang et al. 2022, arXiv:2204.07705, score open instructions. The interval is that of the mean, at 95 %.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import statistics
from pathlib import Path
from typing import Any

import constraints
from write_data import HELD_OUT, SHARED, read, request_of

BATCH = 32
GRAM, TIMES = 4, 3


def main() -> None:
    """Ask, count, keep, print."""
    import gemcut

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--adapter", type=Path, help="folder of the adapter; the base model alone without one")
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the data sets")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--max-tokens", type=int, default=256)
    arguments = parser.parse_args()
    rows = list(read(arguments.data / HELD_OUT))[: arguments.limit]
    model = gemcut.load("starter", adapter=arguments.adapter)
    requests = [request_of(row) for row in rows]
    prompts = [model.chat_prompt([{"role": "user", "content": request}]) for request in requests]
    answers = []
    for begin in range(0, len(prompts), BATCH):
        found = model.generate(prompts[begin : begin + BATCH], max_tokens=arguments.max_tokens, temperature=0.0)
        answers += [{"text": each.text.strip(), "ended": each.finish_reason == "stop"} for each in found]
        print(f"{len(answers)} of {len(prompts)}", flush=True)
    for row, request, answer in zip(rows, requests, answers, strict=True):
        answer |= {"id": row["id"], "request": request, "repeats": repeats(answer["text"])}
        answer["rouge_l"] = rouge_l(answer["text"], row["output"])
    result = {"adapter": arguments.adapter is not None, "max_tokens": arguments.max_tokens, **summary(answers)}
    print(json.dumps(result, indent=1))
    arguments.out.write_text(json.dumps(result | {"answers": answers}, indent=1, ensure_ascii=False) + "\n")


def summary(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares and means over all answers."""
    scores = [answer["rouge_l"] for answer in answers]
    half = 1.96 * statistics.stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else math.nan
    return {
        "requests": len(answers),
        "ended": statistics.mean(answer["ended"] for answer in answers),
        "repeats": statistics.mean(answer["repeats"] for answer in answers),
        "median_words": statistics.median(len(words(answer["text"])) for answer in answers),
        "rouge_l": statistics.mean(scores),
        "rouge_l_interval": [statistics.mean(scores) - half, statistics.mean(scores) + half],
    }


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return constraints.words(text.lower())


def repeats(text: str) -> bool:
    """Whether some run of GRAM words comes TIMES times."""
    said = words(text)
    grams = collections.Counter(tuple(said[begin : begin + GRAM]) for begin in range(len(said) - GRAM + 1))
    return any(count >= TIMES for count in grams.values())


def rouge_l(text: str, reference: str) -> float:
    """F1 of the longest common subsequence of words; 0 where one has none."""
    one, other = words(text), words(reference)
    if not one or not other:
        return 0.0
    lengths = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for place, each in enumerate(other, 1):
            above = lengths[place]
            lengths[place] = diagonal + 1 if word == each else max(above, lengths[place - 1])
            diagonal = above
    common = lengths[-1]
    return 2 * common / (len(one) + len(other))


if __name__ == "__main__":
    main()
