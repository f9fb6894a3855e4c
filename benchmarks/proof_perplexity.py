"""Perplexity of BoolQ passages on every engine against transformers, both in float32 (a few minutes).

    python benchmarks/proof_perplexity.py [--passages N] [--engines jax torch tensorflow]

The starter's weights, dequantised; each passage alone, after the beginning-of-text token. The bar is 0.01 %.
Needs the benchmark data beside the checkout: ../shared/datasets/boolq.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import importlib.metadata
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DATA = HERE.parent.parent / "shared" / "datasets" / "boolq" / "validation.jsonl.gz"
BAR = 1e-4


def main() -> None:
    """Run every program in a process of its own, compare, print, keep the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--passages", type=int, default=40)
    parser.add_argument("--engines", nargs="+", default=["jax", "torch", "tensorflow"])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measured(arguments.child, arguments.passages)))
        return
    results = {name: _in_child(name, arguments.passages) for name in ("transformers", *arguments.engines)}
    reference = results["transformers"]["perplexity"]
    for name, result in results.items():
        result["relative_difference"] = result["perplexity"] / reference - 1
        print(
            f"{name:<14} perplexity {result['perplexity']:.6f}  {result['relative_difference']:+.2e}  "
            f"({result['tokens']} tokens, {result['seconds']:.0f} s)"
        )
    passed = all(abs(result["relative_difference"]) <= BAR for result in results.values())
    report = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "make proof-perplexity",
        "versions": {name: importlib.metadata.version(name) for name in ("gemcut", "keras", "transformers")},
        "bar": BAR,
        "passed": passed,
        "passages": arguments.passages,
        "results": results,
    }
    (HERE / "results" / "perplexity.json").write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(0 if passed else 1)


def measured(name: str, num_passages: int) -> dict[str, Any]:
    """Perplexity over the first passages by one program."""
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        passages = [json.loads(line)["passage"] for line, _ in zip(file, range(num_passages), strict=False)]
    begin = time.perf_counter()
    scored = _by_transformers(passages) if name == "transformers" else _by_gemcut(passages, name)
    tokens = sum(count for _, count in scored)
    total = math.fsum(logprob for logprob, _ in scored)
    return {"perplexity": math.exp(-total / tokens), "tokens": tokens, "seconds": time.perf_counter() - begin}


def _by_gemcut(passages: list[str], engine: str) -> list[tuple[float, int]]:
    import gemcut

    model = gemcut.load("starter", engine=engine, dtype="float32")
    rows = [model.tokenizer.encode(passage) for passage in passages]
    return [(math.fsum(model.engine_model.score([row])[0].tolist()), len(row) - 1) for row in rows]


def _by_transformers(passages: list[str]) -> list[tuple[float, int]]:
    import torch
    import transformers
    from run import dequantised_starter

    from gemcut.checkpoint import open_checkpoint
    from gemcut.generate.load import tokenizer_of
    from gemcut.hub import starter_path

    with open_checkpoint(starter_path()) as checkpoint:
        tokenizer = tokenizer_of(checkpoint)
    model = transformers.AutoModelForCausalLM.from_pretrained(dequantised_starter(), dtype=torch.float32).eval()
    scored = []
    with torch.no_grad():
        for row in map(tokenizer.encode, passages):
            logprobs = model(torch.tensor([row])).logits[0, :-1].log_softmax(-1)
            chosen = logprobs[torch.arange(len(row) - 1), row[1:]].double()
            scored.append((float(chosen.sum()), len(row) - 1))
    return scored


def _in_child(name: str, num_passages: int) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__)), "--child", name, "--passages", str(num_passages)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
