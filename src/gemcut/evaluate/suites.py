"""Suites: tasks that belong together, with the settings of the table that they are compared with."""

from __future__ import annotations

import dataclasses
import functools
from importlib import resources
from typing import Any

from gemcut.errors import MissingExtraError, NotFoundError
from gemcut.evaluate.task import Task


@dataclasses.dataclass(frozen=True)
class Asked:
    """A task that is asked for.

    Attributes:
        task: Its name, the path of its file, or the task itself.
        shots: Solved examples before each question; None for the task's own number.
        limit: Items of it; None for all.
    """

    task: str | Task
    shots: int | None = None
    limit: int | None = None


@dataclasses.dataclass(frozen=True)
class Suite:
    """Tasks under one name.

    Attributes:
        name, title: For people.
        tasks: In the order in which they run.
    """

    name: str
    title: str
    tasks: tuple[Asked, ...]


def load_suite(name: str) -> Suite:
    """A suite that Gemcut brings.

    Raises:
        NotFoundError: there is none of that name.
    """
    suites = _suites()
    if name not in suites:
        raise NotFoundError(f"--suite {name}: expected one of {', '.join(suites)}. Or name tasks with --tasks.")
    return suites[name]


def suite_names() -> tuple[str, ...]:
    """The suites that Gemcut brings."""
    return tuple(_suites())


@functools.cache
def _suites() -> dict[str, Suite]:
    try:
        import yaml
    except ImportError:
        raise MissingExtraError(
            'Evaluation needs PyYAML, which is not installed. Install the extra: pip install "gemcut[eval]".'
        ) from None
    text = (resources.files("gemcut.evaluate") / "suites.yaml").read_text(encoding="utf-8")
    given: dict[str, Any] = yaml.safe_load(text)
    return {
        name: Suite(name, suite["title"], tuple(Asked(**each) for each in suite["tasks"]))
        for name, suite in given.items()
    }


__all__ = ["Asked", "Suite", "load_suite", "suite_names"]
