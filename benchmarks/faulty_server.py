"""`gemcut` with an engine that fails in the middle of every text of the seed FAILING_SEED; arguments as `gemcut`'s."""

from __future__ import annotations

from collections.abc import Sequence

from serve_engine_error import FAILING_SEED, TOKENS_BEFORE

from gemcut.cli import main
from gemcut.generate.runner import ContinuousRunner, Part

_run = ContinuousRunner.run


def run(self: ContinuousRunner, parts: Sequence[Part], num_steps: int) -> None:
    """ContinuousRunner.run, or an error as an engine might raise it."""
    for sequence, _ in parts:
        if sequence.options.sampling.seed == FAILING_SEED and sequence.num_generated >= TOKENS_BEFORE:
            raise RuntimeError("engine: a failure made for a test")
    _run(self, parts, num_steps)


ContinuousRunner.run = run
main()
