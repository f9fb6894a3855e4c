"""Benchmarks: tasks, what a model answers to them, scores with their errors, and reports."""

from gemcut.evaluate.run import Results, evaluate
from gemcut.evaluate.suites import Asked, Suite, load_suite
from gemcut.evaluate.task_run import Progress

__all__ = ["Asked", "Progress", "Results", "Suite", "evaluate", "load_suite"]
