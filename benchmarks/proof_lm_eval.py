"""Every task of `gemcut eval` against lm-evaluation-harness 0.4.13: same prompts, numbers and texts (hours).

    python benchmarks/proof_lm_eval.py [prompts|answers ...] [--tasks NAME ...] [--items N] [--texts N]

Both get the same rows of ../shared/datasets; lm-eval asks with its own prompts (lm_eval_tasks) and its Hugging Face
backend in float32, Gemcut with the native engine in float32, on the starter's weights in float32.

prompts: of all rows, with the task's own number of examples, and for tasks that draw them, with five fixed ones and
with five drawn anew for each item: texts are equal, and the token ids of 50.
answers: per item, log-probabilities within 1e-3 on 200 items of each task that compares choices, the same text on 50
items of each that has the model write, and the same metrics where lm-eval computes them without a network. Where two
log-probabilities are further apart, float64 is asked (float64_referee.py): the proof holds if Gemcut's is within 1e-3
of that, and the result lists them all, as "beyond_bar": item, Gemcut, lm-eval, float64. What came
out is kept task by task, so a proof that was stopped goes on; --again asks anew. lm-eval computes the logits that it
looks at and no others (peer_lmeval.py, --scored-logits).
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import math
import os
import sys
import time
from typing import Any

from alternating import Worker
from eval_items import HERE, LMEVAL_PYTHON, TaskItems, gap_at, ids_of, starter_folder, words_of
from float64_referee import Referee
from run import machine

import gemcut
from gemcut.evaluate.asker import Asker
from gemcut.evaluate.encoding import Encoder
from gemcut.evaluate.task import ChoiceScore
from gemcut.generate.text_model import TextModel

REFEREE = Referee(starter_folder)
RESULT = HERE / "results" / "lm-eval.json"
BAR = 1e-3
NEAR_TIE = 1e-3  # in natural log; where the best two tokens are this close, either program may take either
DRAWN_SHOTS = 5
# Of social_iqa's examples there are five, and lm-eval takes one more than it shows; of bbq's, lm-eval may show an item
# its own answer, which Gemcut never does.
NO_DRAWN = ("social_iqa", "bbq")
# Choices: examples before each question. Texts: examples, and the longest answer. Long: 10 items with as many examples
# as benchmarks are asked with, so that contexts are longer than the model's sliding window.
CHOICES = {
    "hellaswag": 1, "piqa": 1, "social_iqa": 1, "boolq": 0, "winogrande": 1, "commonsense_qa": 1, "openbookqa": 1,
    "arc_easy": 1, "arc_challenge": 1, "mmlu": 1, "agieval": 0, "truthfulqa_mc1": 0, "truthfulqa_mc2": 0,
    "crows_pairs": 0, "bbq": 0, "winogender": 0,
}  # fmt: skip
LONG = {"hellaswag": 10, "arc_challenge": 25, "mmlu": 5}
TEXTS = {
    "triviaqa": (5, 24), "nq_open": (5, 24), "gsm8k": (2, 48), "gsm8k_cot": (8, 48), "math": (4, 48), "bbh": (3, 48),
    "humaneval": (0, 48), "mbpp": (3, 48), "ifeval": (0, 48), "agieval": (0, 32),
}  # fmt: skip
BOTH = {"agieval": "math"}  # choices, and one part that has the model write
# lm-eval needs a network for these, so Gemcut's own tests stand for them.
NO_PEER_METRICS = ("humaneval", "mbpp", "ifeval")


def main() -> None:
    """Compare what is asked for, keep the results, print a line for each task."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", default=["prompts", "answers"], metavar="PART")
    parser.add_argument("--tasks", nargs="*", default=[*CHOICES, *(name for name in TEXTS if name not in CHOICES)])
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--texts", type=int, default=50)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--again", action="store_true", help="ask anew what is there already")
    arguments = parser.parse_args()
    threads = arguments.threads
    model = gemcut.load(starter_folder(), engine="native", dtype="float32", threads=threads)
    command = [str(LMEVAL_PYTHON), str(HERE / "peer_lmeval.py"), str(starter_folder())]
    command += ["--threads", str(threads), "--scored-logits"]
    passed = True
    with Worker("lm-eval", command) as peer:
        versions = {"gemcut": importlib.metadata.version("gemcut"), **peer.versions}
        for part in arguments.parts:
            for name in arguments.tasks:
                facts = _kept().get(part, {}).get(name)
                if arguments.again or facts is None or not facts["passed"]:
                    facts = PARTS[part](name, model, peer, arguments) | {
                        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                        "command": f"python benchmarks/proof_lm_eval.py {part} --tasks {name} --items "
                        f"{arguments.items} --texts {arguments.texts}",
                        "machine": machine(),
                    }
                    report = _kept() | {"versions": versions, "bar": BAR, "engine": model.engine, "dtype": model.dtype}
                    report[part] = report.get(part, {}) | {name: facts}
                    RESULT.write_text(json.dumps(report, indent=1) + "\n")
                    _print(part, name, facts)
                passed &= facts["passed"]
    sys.exit(0 if passed else 1)


def _kept() -> dict[str, Any]:
    """What was found before, perhaps by another process that looks at other tasks."""
    return json.loads(RESULT.read_text()) if RESULT.is_file() else {}


def compared_prompts(name: str, model: TextModel, peer: Worker, arguments: argparse.Namespace) -> dict[str, Any]:
    """Whether both ask the same in words, of all rows, and in token ids, of some."""
    encoder = Encoder(model)
    facts: dict[str, Any] = {"different": [], "different_ids": []}
    for label, items, ids in _prompt_sets(name):
        theirs = by_item(peer.ask(items.peer_request(ask=False, token_ids=ids)))
        facts[label] = len(items.asked)
        encoded = items.encoded(encoder) if ids else None
        for number, asked in enumerate(items.asked):
            requests = theirs[asked.task, asked.doc]["requests"]
            ours = [words_of(request) for request in asked.requests]
            if ours != [_peer_words(request) for request in requests]:
                facts["different"].append([label, asked.item.item_id])
            if encoded and [ids_of(each) for each in encoded[number]] != [
                (r["token_ids"], r["scored"]) for r in requests
            ]:
                facts["different_ids"].append([label, asked.item.item_id])
    return facts | {"passed": not facts["different"] and not facts["different_ids"]}


def _prompt_sets(name: str) -> list[tuple[str, TaskItems, bool]]:
    sets = [("rows", TaskItems(name, None), False), ("rows_with_ids", TaskItems(name, 50), True)]
    task = sets[0][1].task
    if task.shots.files and task.shots.order == "random":
        sets.append(("rows_with_5_fixed", TaskItems(name, 500, DRAWN_SHOTS), False))
        if name not in NO_DRAWN:
            sets.append(("rows_with_5_drawn", TaskItems(name, 500, DRAWN_SHOTS, "lm-eval", first=True), False))
    return sets


def compared_answers(name: str, model: TextModel, peer: Worker, arguments: argparse.Namespace) -> dict[str, Any]:
    """Differences of log-probabilities, texts and metrics."""
    encoder, asker = Encoder(model), Asker(model)
    facts: dict[str, Any] = {}
    runs = []
    if name in CHOICES:
        runs.append((TaskItems(name, None if name in BOTH else arguments.items, CHOICES[name]), None))
    if name in LONG:
        runs.append((TaskItems(name, 10, LONG[name]), None))
    if name in TEXTS:
        shots, max_tokens = TEXTS[name]
        num_texts = None if name in BOTH else arguments.texts
        runs.append((TaskItems(name, num_texts, shots, max_tokens=max_tokens), max_tokens))
    if name in BOTH:
        for (items, _), writes, count in zip(runs, (False, True), (arguments.items, arguments.texts), strict=True):
            of_kind = [asked for asked in items.asked if (asked.item.subset == BOTH[name]) == writes]
            count = min(count, len(of_kind))
            items.asked = [of_kind[index * len(of_kind) // count] for index in range(count)]
    for items, max_tokens in runs:
        start = time.perf_counter()
        encoded = items.encoded(encoder)
        ours = items.answers(asker, encoded)
        seconds = time.perf_counter() - start
        given = peer.ask(items.peer_request(max_tokens, metrics=name not in NO_PEER_METRICS))
        found = differences(items, encoded, ours, by_item(given), model)
        kind = "texts" if max_tokens else "long" if items.shots == LONG.get(name) else "choices"
        facts[kind] = found | {"shots": items.shots, "seconds": [round(seconds, 1), round(given["seconds"], 1)]}
    return facts | {"passed": all(_holds(found) for found in facts.values())}


def differences(items: TaskItems, encoded: Any, ours: Any, theirs: Any, model: TextModel) -> dict[str, Any]:
    """What differs between Gemcut's answers and lm-eval's, in prompts, numbers, texts and metrics."""
    facts: dict[str, Any] = {"items": len(items.asked), "different_prompts": [], "different_metrics": []}
    differences, beyond, texts, near_ties, greedy = [], [], [], [], 0
    for number, asked in enumerate(items.asked):
        item, peer = asked.item, theirs[asked.task, asked.doc]
        if [ids_of(each)[0] for each in encoded[number]] != [request["token_ids"] for request in peer["requests"]]:
            facts["different_prompts"].append(item.item_id)
        for place, (answer, other) in enumerate(zip(ours[number], peer["answers"], strict=True)):
            if isinstance(answer, ChoiceScore):
                differences.append(abs(answer.logprob - other[0]))
                if differences[-1] > BAR:
                    ids, scored = ids_of(encoded[number][place])
                    beyond.append([item.item_id, answer.logprob, other[0], REFEREE.logprob(ids, scored)])
                greedy += answer.is_greedy != other[1]
            elif answer != other:
                gap = _gap(model, encoded[number][place], answer, other)
                (near_ties if gap < NEAR_TIE else texts).append([item.item_id, gap, answer, other])
        if not _executes(items):
            metrics = items.task.score(item, ours[number])
            wrong = {key: value for key, value in metrics.items() if not _agrees(key, value, peer["metrics"])}
            if wrong:
                facts["different_metrics"].append([item.item_id, wrong, peer["metrics"]])
    if differences:
        facts |= {"requests": len(differences), "max_difference": max(differences), "different_greedy": greedy}
        facts["beyond_bar"] = beyond
    return facts | {"different_texts": texts, "near_ties": near_ties}


def _executes(items: TaskItems) -> bool:
    return items.task.executes_code or items.task.name in NO_PEER_METRICS


def _gap(model: TextModel, encoded: Any, answer: str, other: str) -> float:
    """Where two texts part, how far the model is from being undecided."""
    ours, theirs = (model.tokenizer.encode(text, add_bos=False) for text in (answer, other))
    return gap_at(model, encoded.token_ids.tolist(), ours, theirs)


def _agrees(key: str, value: float, peer: dict[str, Any]) -> bool:
    """Whether lm-eval has a metric of this name, or of this name of an extraction, and the same value."""
    named = {"mc2": "acc"}.get(key, key)
    values = [each for name, each in peer.items() if named in name.split(",") and isinstance(each, (int, float, bool))]
    return not values or any(math.isclose(float(each), value, abs_tol=1e-3) for each in values)


def _holds(facts: dict[str, Any]) -> bool:
    wrong = ("different_prompts", "different_metrics", "different_texts")
    is_near = all(abs(ours - exact) <= BAR for _, ours, _, exact in facts.get("beyond_bar", ()))
    return is_near and not any(facts[key] for key in wrong)


def by_item(answer: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    """lm-eval's answer by its task and the number of the row."""
    return {(doc["task"], doc["doc"]): doc for doc in answer["docs"]}


def _peer_words(request: dict[str, Any]) -> tuple[str, str | None]:
    return request["context"], request["what"] if isinstance(request["what"], str) else None


def _print(part: str, name: str, facts: dict[str, Any]) -> None:
    shown = {
        key: value if not isinstance(value, list) else len(value)
        for found in ([facts] if part == "prompts" else [each for each in facts.values() if isinstance(each, dict)])
        for key, value in found.items()
        if key not in ("date", "command", "machine")
    }
    print(f"{part:<8} {name:<15} {'ok' if facts['passed'] else 'DIFFERS':<8} {shown}", flush=True)


PARTS = {"prompts": compared_prompts, "answers": compared_answers}

if __name__ == "__main__":
    main()
