"""What the engine's benchmark asks of a program, and the loop that answers: one JSON object a line, both ways.

Used by worker_engine.py and peer_llamacpp.py, which run in different environments: the standard library and NumPy only.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

DRIFT_TOKENS = 512  # a decode run may go on behind an earlier one of the same depth; the depth is then a little more
NOTHING = (-1, 0)  # depth asked for by the decode runs that the sequence comes from, and its tokens: none yet
MEMORY_TOKENS = 512
SETTLE_SECONDS = 3.0  # memory that is given back in the background is back
GROUP_ROWS = 32  # rows of logits compared at a time: 32 x 262144 float32 is 32 MiB


class Program(Protocol):
    """An engine with one model in memory; every number is wall-clock seconds of the work alone."""

    def prefill(self, num_tokens: int) -> float:
        """One prompt of num_tokens, its last logits included."""

    def decode(self, depth: int, num_tokens: int) -> float:
        """num_tokens decode steps of one sequence behind depth to depth + DRIFT_TOKENS tokens."""

    def batch(self, num_sequences: int, depth: int, num_tokens: int) -> float:
        """num_tokens decode steps of each of num_sequences sequences, together, each behind depth tokens."""

    def logits(self, token_ids: list[int]) -> np.ndarray:
        """float32 (T, V)."""

    def facts(self) -> dict[str, Any]:
        """What else is worth keeping, such as bytes read for each token."""


def token_ids_of(num_tokens: int) -> list[int]:
    """A prompt of ordinary tokens after the beginning-of-text token; the same for every program."""
    return [2, *(1000 + index * 7919 % 200_000 for index in range(num_tokens - 1))]


def resident_bytes() -> int:
    """Memory of this process that is in RAM, pages of mapped files counted. Source: man 5 proc_pid_status."""
    keys = ("RssAnon:", "RssFile:", "RssShmem:")
    rows = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    return sum(int(row[1]) * 1024 for row in rows if row and row[0] in keys)


def settled_memory(program: Program, before_bytes: int) -> dict[str, int]:
    """Memory that a loaded program has in use after a prompt of 512 tokens and a decode step.

    Args:
        program: With one context, whose size the caller chose.
        before_bytes: resident_bytes() before it was loaded; not counted.

    Returns:
        "resident_bytes" when all is quiet again, and "peak_bytes" of all before.
    """
    program.prefill(MEMORY_TOKENS)
    program.decode(0, 1)
    time.sleep(SETTLE_SECONDS)
    rows = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    peak_bytes = next(int(row[1]) * 1024 for row in rows if row and row[0] == "VmHWM:")
    return {"resident_bytes": resident_bytes() - before_bytes, "peak_bytes": peak_bytes - before_bytes}


def quality(logits: np.ndarray, reference: np.ndarray, token_ids: list[int]) -> dict[str, float]:
    """How well logits predict a text, and how far they are from a reference's.

    Args:
        logits: float32 (T, V).
        reference: float32 (T, V).
        token_ids: The text; row t predicts token t + 1.

    Returns:
        Sums over the T - 1 predictions: "tokens", "nll" (nats), "kl" (of the reference to logits, nats), "same_top".
    """
    sums = {"tokens": float(len(token_ids) - 1), "nll": 0.0, "kl": 0.0, "same_top": 0.0}
    for begin in range(0, len(token_ids) - 1, GROUP_ROWS):
        end = min(begin + GROUP_ROWS, len(token_ids) - 1)
        (ours, _, our_sum), (theirs, shares, their_sum) = (
            _exponentials(rows[begin:end]) for rows in (logits, reference)
        )
        chosen = ours[np.arange(end - begin), token_ids[begin + 1 : end + 1]]
        sums["nll"] += float((np.log(our_sum) - chosen).sum())
        sums["same_top"] += float((ours.argmax(-1) == theirs.argmax(-1)).sum())
        apart = (shares * (theirs - ours)).sum(-1, dtype=np.float64) / their_sum
        sums["kl"] += float((apart + np.log(our_sum) - np.log(their_sum)).sum())
    return sums


def serve(program: Program, ready: dict[str, Any]) -> None:
    """Say that the program is ready, then answer requests until standard input ends.

    Args:
        program: What is measured.
        ready: For the first answer, {"ready": ready}: versions and settings.
    """
    print(json.dumps({"ready": ready}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(_answer(program, request.pop("do"), request)), flush=True)


def _answer(program: Program, work: str, request: dict[str, Any]) -> dict[str, Any]:
    if work == "facts":
        return program.facts()
    if work == "logits":  # kept for the other programs: {"token_ids", "file"}
        np.save(request["file"], program.logits(request["token_ids"]))
        return {}
    if work == "quality":  # {"token_ids", "reference": a file that "logits" wrote}
        reference = np.load(request["reference"], mmap_mode="r")
        return dict(quality(program.logits(request["token_ids"]), reference, request["token_ids"]))
    return {"seconds": getattr(program, work)(**request)}


def _exponentials(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows less their maximum, the exponentials of that, both float32, and their float64 sums (T,)."""
    lowered = np.asarray(rows, np.float32)
    lowered = lowered - lowered.max(-1, keepdims=True)
    exponentials = np.exp(lowered)
    return lowered, exponentials, exponentials.sum(-1, dtype=np.float64)
