"""The report as one HTML page that needs nothing else: no script, no other host, pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2
import markupsafe

from gemcut.evaluate.plots import DARK, LIGHT, Theme, figure_bytes, group_bars, task_forest
from gemcut.evaluate.published import points_text
from gemcut.evaluate.report_table import closing_lines, interval_text, verdict_of, with_error

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FOLDER = resources.files("gemcut.evaluate")
_FOREST_CAPTION = (
    "Dots are measured here, with their 95 % intervals; diamonds are the same model's published scores, small marks "
    "those of other models, each in the setting of its source."
)
_GROUPS_CAPTION = (
    "Bars of a group are means over the same members. Published bars have no intervals: their tables give none."
)


def render_html(report: Mapping[str, Any]) -> str:
    """The page of a report, see `report.build_report`.

    Raises:
        MissingExtraError: Matplotlib is not installed.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string((_FOLDER / "report.html.jinja").read_text(encoding="utf-8"))
    css = (_FOLDER / "report.css").read_text(encoding="utf-8")
    groups = [{**group, "unit": "%"} for group in report["groups"]]
    return template.render(
        r={**report, "groups": groups},
        css=markupsafe.Markup(css),
        closing=closing_lines(report),
        with_error=with_error,
        verdict_of=verdict_of,
        interval_text=interval_text,
        points_text=points_text,
        sources={each["source"]: each for task in report["tasks"] for each in task["published"]},
        pictures=_pictures(report),
        identity=_identity(report),
    )


def _pictures(report: Mapping[str, Any]) -> list[dict[str, str]]:
    found = [_picture(report, task_forest, "Tasks", _FOREST_CAPTION, _forest_alt(report))]
    if report["groups"]:
        alt = "The figures of this picture are in the table of groups."
        found.append(_picture(report, group_bars, "Groups", _GROUPS_CAPTION, alt))
    return found


def _picture(
    report: Mapping[str, Any], draw: Callable[[Mapping[str, Any], Theme], Figure], title: str, caption: str, alt: str
) -> dict[str, str]:
    uris = [
        "data:image/svg+xml;base64," + base64.b64encode(figure_bytes(draw(report, theme), "svg")).decode("ascii")
        for theme in (LIGHT, DARK)
    ]
    return {"title": title, "caption": caption, "alt": alt, "light": uris[0], "dark": uris[1]}


def _forest_alt(report: Mapping[str, Any]) -> str:
    """The picture's figures in words."""
    parts = []
    for task in report["tasks"]:
        metric = task["metrics"][0]
        published = f", published {points_text(task['published'][0]['score'])}" if task["published"] else ""
        parts.append(f"{task['title']} {metric['value']:.1f}{published}")
    return "Measured scores: " + "; ".join(parts) + "."


def _identity(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was measured, with what, where."""
    rows = []
    for section in ("model", "machine", "versions"):
        for name, value in (report[section] or {}).items():
            shown = ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, Mapping) else value
            label = name.replace("_", " ") if section == "model" else f"{section}: {name.replace('_', ' ')}"
            rows.append((label, str(shown)))
    return [*rows, ("command", str(report["command"])), ("date", str(report["date"]))]
