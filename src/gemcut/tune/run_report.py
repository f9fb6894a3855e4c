"""The report on a run: a page that needs nothing else, and the curves as a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from gemcut.files import atomic_write_text
from gemcut.tune.curves import curves_svg
from gemcut.tune.recipe import Recipe
from gemcut.tune.run_log import EVALUATION, STEP, read_log

REPORT, CURVES = "report.html", "curves.svg"
_FOLDER = resources.files("gemcut.tune")


@dataclasses.dataclass(frozen=True)
class RunReport:
    """What is known of a run, finished or not.

    Attributes:
        recipe: Of the run.
        ended: Why it ended, in words.
        num_steps: Of the whole run.
        best_step: The step with the lowest held-out loss; None where nothing is held out.
        exported_step: The step that the adapter or the model is of; None where there is none yet.
        artefact: Where that lies in the run's folder.
        tokens, seconds: What training took, all sessions together.
        memory_bytes: The most that was in use.
        facts: Engine, type, threads, versions.
        command: The command line.
        notices: What may make it differ from a run that was not interrupted.
    """

    recipe: Recipe
    ended: str
    num_steps: int
    best_step: int | None
    exported_step: int | None
    artefact: str | None
    tokens: int
    seconds: float
    memory_bytes: int
    facts: Mapping[str, Any]
    command: str
    notices: Sequence[str]


def write_report(run: Path, report: RunReport) -> None:
    """Write report.html and curves.svg into a run's folder, of its log.

    Raises:
        GemcutError: the disk is full or not writable.
    """
    entries = read_log(run)
    steps = [entry for entry in entries if entry["kind"] == STEP]
    evaluations = [entry for entry in entries if entry["kind"] == EVALUATION]
    with_loss = [entry for entry in evaluations if entry["loss"] is not None]
    has_curves = any(entry["loss"] is not None for entry in steps)
    if has_curves:
        atomic_write_text(run / CURVES, curves_svg(entries))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string((_FOLDER / "run_report.html.jinja").read_text(encoding="utf-8"))
    css = "".join((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "curves.css"))
    page = template.render(
        r=report,
        css=markupsafe.Markup(css),
        curves=markupsafe.Markup(curves_svg(entries, is_page=True)) if has_curves else None,
        last=steps[-1] if steps else None,
        evaluations=with_loss,
        task_rows=_task_rows(evaluations),
        tally=_tally(report, steps, with_loss),
        facts=_facts(report.facts),
        recipe=report.recipe.to_yaml(),
    )
    atomic_write_text(run / REPORT, page)


def _tally(
    report: RunReport, steps: Sequence[dict[str, Any]], evaluations: Sequence[dict[str, Any]]
) -> list[tuple[str, str]]:
    """Figures and what they are, of steps and of evaluations that have a loss."""
    rows = [(f"{len(steps):,}", f"of {report.num_steps:,} steps")]
    if evaluations:
        best = min(evaluations, key=lambda entry: entry["loss"])
        rows.append((f"{best['loss']:.4f}", f"held-out loss after step {best['step']:,}, the lowest"))
    if steps and steps[-1]["loss"] is not None:
        rows.append((f"{steps[-1]['loss']:.4f}", "loss of the last step"))
    if report.seconds:
        rows.append((f"{report.tokens / report.seconds:,.0f}", "tokens a second"))
    return [*rows, (duration(report.seconds), "of training"), (f"{report.memory_bytes / 2**30:.2f} GiB", "at most")]


def _task_rows(evaluations: Sequence[dict[str, Any]]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names of the tasks that were asked, and after each step their scores."""
    names = list(dict.fromkeys(name for entry in evaluations for name in entry.get("tasks", ())))
    asked = [entry for entry in evaluations if entry.get("tasks")]
    rows = [(entry["step"], [f"{entry['tasks'][name]:.4f}" for name in names]) for entry in asked]
    return names, rows


def duration(seconds: float) -> str:
    """A time in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    names = ("engine", "dtype", "threads", "processor")
    return [*((name, str(facts[name])) for name in names), ("versions", versions), ("base model", facts["base"])]
