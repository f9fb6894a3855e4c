"""How much the engine's arithmetic costs in quality, beside llama.cpp's, on the same file.

Truth is the engine itself on the file's weights dequantised to float32, with float32 keys and values; that one is
checked against transformers by tests/parity.
"""

from __future__ import annotations

import gzip
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

from alternating import Worker
from engine_models import HERE, Row, engine_worker, peer_worker
from run import dequantised_starter

PASSAGES = HERE.parent.parent / "shared" / "datasets" / "boolq" / "validation.jsonl.gz"
MAX_OVER_PEER = 5e-4
AIM_OVER_FLOAT32 = 3e-3


def measured_quality(num_passages: int) -> list[Row]:
    """Perplexity, mean KL to float32 and same-top-token rate over the first BoolQ passages, each passage alone.

    Ours runs in the mode whose speed is measured: the Q4_K_M file, the default cache, the default threads.
    """
    programs = {
        "ours": engine_worker("starter", 2),
        "llama.cpp": peer_worker("starter", 2, ()),
        "llama.cpp, no repack": peer_worker("starter", 2, ("--no-repack",)),
    }
    reference = engine_worker(dequantised_starter(), 2, "--dtype", "float32")
    try:
        sums = _sums(programs, reference, num_passages)
    finally:
        for worker in (reference, *programs.values()):
            worker.close()
    return _rows(sums, num_passages)


def _sums(programs: dict[str, Worker], reference: Worker, num_passages: int) -> dict[str, dict[str, float]]:
    """Added up over the passages, for the programs and for "float32"."""
    sums: dict[str, dict[str, float]] = {name: {} for name in (*programs, "float32")}
    workers = {"float32": reference, **programs}
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "logits.npy")
        for token_ids in passages(num_passages):
            reference.ask({"do": "logits", "token_ids": token_ids, "file": file})
            for name, worker in workers.items():  # by turns: each has threads of its own that wait spinning
                answer = worker.ask({"do": "quality", "token_ids": token_ids, "reference": file})
                for key, value in answer.items():
                    sums[name][key] = sums[name].get(key, 0.0) + value
    return sums


def passages(num_passages: int) -> Iterator[list[int]]:
    """Token ids of the first passages of BoolQ's validation set."""
    from gemcut.checkpoint import open_checkpoint
    from gemcut.generate.load import tokenizer_of
    from gemcut.hub import starter_path

    with open_checkpoint(starter_path()) as checkpoint:
        tokenizer = tokenizer_of(checkpoint)
    with gzip.open(PASSAGES, "rt", encoding="utf-8") as file:
        for line, _ in zip(file, range(num_passages), strict=False):
            yield tokenizer.encode(json.loads(line)["passage"])


def _rows(sums: dict[str, dict[str, float]], num_passages: int) -> list[Row]:
    perplexity = {name: math.exp(each["nll"] / each["tokens"]) for name, each in sums.items()}
    kl = {name: each["kl"] / each["tokens"] for name, each in sums.items()}
    same = {name: each["same_top"] / each["tokens"] for name, each in sums.items()}
    peer = min((name for name in sums if name.startswith("llama")), key=lambda name: perplexity[name])
    over = {name: value / perplexity["float32"] - 1 for name, value in perplexity.items()}
    work = f"starter, {num_passages} passages"
    data = {"perplexity": perplexity, "over_float32": over, "kl": kl, "same_top": same, "sums": sums}
    difference = perplexity["ours"] / perplexity[peer] - 1
    return [
        Row(
            f"{work}, perplexity (float32: {perplexity['float32']:.4f})",
            f"{perplexity['ours']:.4f} ({over['ours']:+.2%})",
            f"{perplexity[peer]:.4f} ({over[peer]:+.2%}; {peer})",
            f"{difference:+.3%}",
            f"<= {MAX_OVER_PEER:+.2%} (aim {AIM_OVER_FLOAT32:+.1%} over float32)",
            difference <= MAX_OVER_PEER,
            data,
        ),
        Row(f"{work}, mean KL to float32", f"{kl['ours']:.5f}", f"{kl[peer]:.5f}", "nats", "-", None, {}),
        Row(f"{work}, same top token", f"{same['ours']:.2%}", f"{same[peer]:.2%}", "of predictions", "-", None, {}),
    ]
