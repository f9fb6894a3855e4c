"""Answers that are programs: run in the sandbox with their tests, put together as by lm-evaluation-harness 0.4.13."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from gemcut.errors import DataError, UsageError
from gemcut.evaluate.data import Row
from gemcut.evaluate.sandbox import Limits, ProgramResult, run_program

METRIC = "pass@1"


def humaneval_program(text: str, row: Row) -> str:
    """The function that the prompt begins and the answer goes on with, and the call of its test."""
    return f"{row['prompt']}{text}\n{row['test']}\ncheck({row['entry_point']})"


def mbpp_program(text: str, row: Row) -> str:
    """The answer and the assertions that it was shown; what its stop text, "[DONE]", ends it is cut off."""
    return "\n".join([text.split("[DONE]", 1)[0], *row["test_list"]])


PROGRAMS: Mapping[str, Callable[[str, Row], str]] = {"humaneval": humaneval_program, "mbpp": mbpp_program}


@dataclasses.dataclass(frozen=True)
class CodeScorer:
    """Whether a program passes its tests.

    Attributes:
        form: How answer and tests are put together: "humaneval" or "mbpp".
        is_allowed: Whether it may run them; see `allowed`.
        limits: Of each program.

    Raises:
        UsageError: no such form.
    """

    form: str
    is_allowed: bool = False
    limits: Limits = dataclasses.field(default_factory=Limits)
    executes_code: bool = dataclasses.field(default=True, init=False)
    metrics: tuple[str, ...] = dataclasses.field(default=(METRIC,), init=False)

    def __post_init__(self) -> None:
        if self.form not in PROGRAMS:
            raise UsageError(f"form is {self.form!r}, expected one of {', '.join(PROGRAMS)}.")

    def allowed(self) -> CodeScorer:
        """The same, which may run programs."""
        return dataclasses.replace(self, is_allowed=True)

    def score(self, text: str, row: Row, right: Sequence[str] = ()) -> dict[str, float]:
        """{"pass@1": 1} where the answer's program passes, else 0; raises as `run` does."""
        return {METRIC: float(self.run(text, row).passed)}

    def run(self, text: str, row: Row) -> ProgramResult:
        """How the program of an answer ended.

        Raises:
            UsageError: running programs was not allowed.
            DataError: the row lacks a field.
            BackendError: this machine offers no sandbox.
        """
        if not self.is_allowed:
            raise UsageError(
                "Code execution: this task runs programs that the model wrote. Allow it with --allow-code-execution; "
                "they run in a sandbox."
            )
        try:
            program = PROGRAMS[self.form](text, row)
        except KeyError as error:
            raise DataError(
                f"a row of {self.form} has no field {error}. The file is damaged or of another task."
            ) from None
        return run_program(program, self.limits)

    def run_all(self, answers: Sequence[tuple[str, Row]], num_programs: int | None = None) -> list[ProgramResult]:
        """As `run` for each answer and its row, several at a time: as many as there are cores unless told otherwise."""
        with ThreadPoolExecutor(num_programs or os.cpu_count()) as pool:
            return list(pool.map(lambda answer: self.run(*answer), answers))


__all__ = ["CodeScorer", "humaneval_program", "mbpp_program"]
