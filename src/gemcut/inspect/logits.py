"""Two models' next-token distributions on the same tokens, with one model in memory at a time.

The first model's logits go to a file, 1 MiB for each token of a vocabulary of 262,144; the second's are compared with
it as they come. The native engine computes in this process, a Keras engine in a child process of its own, because a
process has one Keras backend.
"""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import numpy as np

from gemcut import errors
from gemcut.checkpoint import open_checkpoint
from gemcut.checkpoint.adapter import read_adapter
from gemcut.checkpoint.load import load_model
from gemcut.checkpoint.native import open_native
from gemcut.errors import BackendError, GemcutError
from gemcut.interfaces import LanguageModel

_CHUNK_ROWS = 4  # 8 MiB of float64 at 262,144 tokens
_MAX_EXPONENT = 700.0  # a float64 ends at exp(709); a broken model's perplexity stays a number
_CHILD = "from gemcut.inspect.logits import main; main()"
_ANSWER, _PROGRESS = "gemcut-logits ", "gemcut-progress "


@dataclasses.dataclass(frozen=True)
class LogitsTask:
    """What one model is to compute.

    Attributes:
        path: Its files.
        engine, dtype, threads: As in `gemcut.load`, but for "auto", which is decided already.
        pieces: Short sequences, whose logits are compared at every position.
        windows: Long sequences, of which only the tokens' own log-probabilities are taken.
        file: Where the first model's logits lie.
        compares: Whether to compare with that file; else it is written.
        adapter: Folder of a LoRA adapter that is computed beside the weights; None for none.
    """

    path: str
    engine: str
    dtype: str
    threads: int | None
    pieces: list[list[int]]
    windows: list[list[int]]
    file: str
    compares: bool
    adapter: str | None = None


def run(task: LogitsTask, progress: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Compute a task where its engine may run.

    Args:
        task: The task.
        progress: Called with the number of positions done.

    Returns:
        engine, dtype, logprobs (one list for each window), distance (None unless it compares; see `LogitDistance`).

    Raises:
        GemcutError: the model cannot be loaded, or the disk is full; of the class that the cause has.
    """
    return compute(task, progress) if task.engine == "native" else _in_child(task, progress)


def compute(task: LogitsTask, progress: Callable[[int], None] | None = None) -> dict[str, Any]:
    """As `run`, in this process."""
    opened = open_native(task.path) if task.engine == "native" else open_checkpoint(task.path)
    with opened as checkpoint:
        adapter = read_adapter(task.adapter, checkpoint) if task.adapter else None
        model = load_model(checkpoint, task.engine, task.dtype, task.threads, adapter)
    try:
        logprobs = [model.score([window])[0].tolist() for window in task.windows]
        distance = _logits(model, task, progress or (lambda done: None))
        return {"engine": model.engine, "dtype": model.dtype, "logprobs": logprobs, "distance": distance}
    finally:
        model.close()


def _logits(model: LanguageModel, task: LogitsTask, progress: Callable[[int], None]) -> dict[str, Any] | None:
    distance, done = LogitDistance(), 0
    try:
        with open(task.file, "rb" if task.compares else "wb") as file:
            for piece in task.pieces:
                logits = model.logits(piece)
                if task.compares:
                    distance.add(file, logits)
                else:
                    file.write(np.ascontiguousarray(logits, np.float32).data)
                done += len(piece)
                progress(done)
    except OSError as problem:
        raise GemcutError(
            f"{task.file}: the logits of the first model could not be kept ({problem.strerror}). "
            "Free space, set TMPDIR to a larger disk, or compare fewer tokens (--tokens)."
        ) from None
    return distance.facts() if task.compares else None


class LogitDistance:
    """Sums over positions of how far two models' logits lie apart; A is the first."""

    def __init__(self) -> None:
        self._rows: list[RowDistances] = []
        self._vocab_size = 0

    def add(self, file: BinaryIO, logits: np.ndarray) -> None:
        """Compare float32 (T, V) with as many rows of the first model's from `file`, on all cores."""
        chunks = [logits[first : first + _CHUNK_ROWS] for first in range(0, len(logits), _CHUNK_ROWS)]
        others = [np.frombuffer(file.read(rows.nbytes), np.float32).reshape(rows.shape) for rows in chunks]
        with ThreadPoolExecutor() as pool:
            self._rows += pool.map(row_distances, others, chunks)
        self._vocab_size = logits.shape[1]

    def facts(self) -> dict[str, Any]:
        """positions, is_finite, max_error, mean_error, mean_kl and max_kl (nats), same_top_rate."""
        max_errors, error_sums, divergences, same_top = (np.concatenate(each) for each in zip(*self._rows, strict=True))
        positions = len(divergences)
        return {
            "positions": positions,
            "is_finite": bool(np.isfinite(max_errors).all()),
            "max_error": float(max_errors.max()),
            "mean_error": float(error_sums.sum()) / (positions * self._vocab_size),
            "mean_kl": float(divergences.mean()),
            "max_kl": float(divergences.max()),
            "same_top_rate": int(same_top.sum()) / positions,
        }


# Of each row: largest error, sum of the errors, KL divergence, whether both choose the same token.
RowDistances = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def row_distances(a: np.ndarray, b: np.ndarray) -> RowDistances:
    """How far two models' logits lie apart at each position; NaN where a logit is NaN or infinite.

    Args:
        a, b: float32 (T, V).
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinite less infinite; the caller looks for NaN
        error = np.abs(a - b)
        error[~np.isfinite(error)] = np.nan
        divergence = np.maximum(kl_divergence(a, b), 0)
    same_top = a.argmax(axis=-1) == b.argmax(axis=-1)
    return error.max(axis=-1), error.sum(axis=-1), divergence, same_top


def kl_divergence(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """KL(softmax(a) || softmax(b)) of each row, in nats.

    Args:
        a, b: float64 (T, V) logits.
    """
    a = a - a.max(axis=-1, keepdims=True)
    b = b - b.max(axis=-1, keepdims=True)
    weights = np.exp(a)
    total = weights.sum(axis=-1)
    between = np.log(np.exp(b).sum(axis=-1)) - np.log(total)
    divergence: np.ndarray = (weights * (a - b)).sum(axis=-1) / total + between
    return divergence


def perplexity(logprobs: list[list[float]]) -> float:
    """The exponential of the mean negative log-probability over all windows."""
    mean = math.fsum(value for window in logprobs for value in window) / sum(map(len, logprobs))
    return math.exp(min(-mean, _MAX_EXPONENT))


def _in_child(task: LogitsTask, progress: Callable[[int], None] | None) -> dict[str, Any]:
    """`compute` in a process of its own; its errors are raised here."""
    command = [sys.executable, "-c", _CHILD]
    with tempfile.TemporaryFile() as log, subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8"
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(dataclasses.asdict(task)))
        child.stdin.close()
        answer: dict[str, Any] | None = None
        try:
            for line in child.stdout:
                if line.startswith(_PROGRESS) and progress:
                    progress(int(line.removeprefix(_PROGRESS)))
                elif line.startswith(_ANSWER):
                    answer = json.loads(line.removeprefix(_ANSWER))
        except BaseException:
            child.kill()
            raise
        code = child.wait()
        log.seek(0)
        said = log.read().decode("utf-8", errors="replace").strip().splitlines()
    if answer is None:
        last = said[-1] if said else "it said nothing"
        raise BackendError(f'engine "{task.engine}": its process ended with exit code {code}: {last}')
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["message"])
    return answer


def main() -> None:
    """The child process: a task as JSON on standard input, progress and the answer on standard output."""
    task = LogitsTask(**json.load(sys.stdin))
    try:
        answer = compute(task, lambda done: _say(f"{_PROGRESS}{done}"))
    except GemcutError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    _say(_ANSWER + json.dumps(answer))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
