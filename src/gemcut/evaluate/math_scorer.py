"""Scores of written mathematics, computed by a process of its own that may take too long without harm."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import selectors
import subprocess
import sys
from collections.abc import Sequence

from gemcut.errors import BackendError, MissingExtraError
from gemcut.evaluate.data import Row

START_SECONDS = 120.0
ANSWER_SECONDS = 120.0  # the limits inside the process are far lower; they cannot stop arithmetic on huge integers
ANTLR_VERSION = "4.11"  # the only one that sympy.parsing.latex works with


@dataclasses.dataclass(frozen=True)
class MathScorer:
    """Whether the answer to a MATH problem is right: after normalisation, and to the library math-verify."""

    metrics: tuple[str, ...] = ("exact_match", "math_verify")

    def score(self, text: str, row: Row, right: Sequence[str]) -> dict[str, float]:
        """Both scores; `right` is the reference solution. An answer that cannot be compared in time is wrong.

        Raises:
            MissingExtraError: math-verify, or the version of antlr4 that SymPy needs, is not installed.
            BackendError: the process cannot work here.
        """
        _check_libraries()
        scores = _process().ask([text, right[0]])
        return scores if scores is not None else dict.fromkeys(self.metrics, 0.0)


def _check_libraries() -> None:
    missing = [name for name in ("math_verify", "sympy") if importlib.util.find_spec(name) is None]
    try:
        antlr = importlib.metadata.version("antlr4-python3-runtime")
    except importlib.metadata.PackageNotFoundError:
        antlr = "not there"
    if missing or not antlr.startswith(f"{ANTLR_VERSION}."):
        found = f"{missing[0]} is not installed" if missing else f"antlr4-python3-runtime is {antlr}"
        raise MissingExtraError(
            f"Scoring MATH: {found}, expected math-verify, sympy and antlr4-python3-runtime {ANTLR_VERSION}. Install "
            'the extra: pip install "gemcut[eval]".'
        )


class MathProcess:
    """The process that compares; started when first asked, and again after it was too slow.

    Args:
        command: What it runs.
        seconds: How long an answer may take.
    """

    def __init__(self, command: Sequence[str], seconds: float = ANSWER_SECONDS) -> None:
        self._command, self._seconds = list(command), seconds
        self._process: subprocess.Popen[str] | None = None

    def ask(self, question: Sequence[str]) -> dict[str, float] | None:
        """The process's answer; None where it takes too long or dies of it.

        Raises:
            BackendError: it does not even start.
        """
        if self._process is None:
            self._start()
        return self._answer(question, self._seconds)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        if self._answer(["", "\\boxed{1}"], START_SECONDS) is None:
            raise BackendError(
                f"Scoring MATH: `{' '.join(self._command)}` does not answer, expected scores. Run it, type "
                r'["", "\\boxed{1}"] and see what it says.'
            )

    def _answer(self, question: Sequence[str], seconds: float) -> dict[str, float] | None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except OSError:
            self.close()
            return None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            line = self._process.stdout.readline() if selector.select(seconds) else ""
        if not line:
            self.close()
            return None
        return dict(json.loads(line))


@functools.cache
def _process() -> MathProcess:
    process = MathProcess([sys.executable, "-P", "-m", "gemcut.evaluate.math_answers"])
    atexit.register(process.close)
    return process


__all__ = ["MathProcess", "MathScorer"]
