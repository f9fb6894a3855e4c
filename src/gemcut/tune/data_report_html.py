"""The report on the data as one HTML page that needs nothing else: no script, no other host."""

from __future__ import annotations

from importlib import resources
from typing import Any

import jinja2
import markupsafe

from gemcut.tune.data_report import DataReport
from gemcut.tune.data_report_text import changes, fields

_FOLDER = resources.files("gemcut.tune")
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 880, 260, 52, 24, 228
_MAX_LABELS = 9


def render_html(report: DataReport) -> str:
    """The page of a report."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string((_FOLDER / "data_report.html.jinja").read_text(encoding="utf-8"))
    rows = fields(report)
    return template.render(
        r=report,
        css=markupsafe.Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        fields=dict(rows),
        facts=[(name, value) for name, value in rows if name not in ("", "files", "lengths")],
        changes=list(changes(report)),
        files=[*report.files, *report.held_out_files],
        plot=_plot(report),
    )


def _plot(report: DataReport) -> dict[str, Any]:
    """Where everything in the histogram stands."""
    lengths, limit = report.lengths, report.plan.length
    low, high = lengths.edges[0], lengths.edges[-1]
    step, most = _tick_step(max(lengths.counts)), max(lengths.counts)
    top = -(-most // step) * step

    def across(tokens: float) -> float:
        return round(_LEFT + 8 + (tokens - low) / (high - low) * (_WIDTH - _LEFT - 24), 1)

    def up(count: float) -> float:
        return round(_BOTTOM - count / top * (_BOTTOM - _TOP), 1)

    bars = [
        {
            "x": across(begin) + 1,
            "y": up(count),
            "width": round(across(end) - across(begin) - 2, 1),
            "height": round(_BOTTOM - up(count), 1),
            "title": f"{begin:,} to {end - 1:,} tokens: {count:,} samples",
        }
        for begin, end, count in zip(lengths.edges, lengths.edges[1:], lengths.counts, strict=False)
    ]
    every = -(-len(lengths.edges) // _MAX_LABELS)
    return {
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "bottom": _BOTTOM,
        "bars": bars,
        "ticks": [(up(count), f"{count:,}") for count in range(0, top + 1, step)],
        "edges": [(across(edge), f"{edge:,}") for edge in lengths.edges[::every]],
        "limit": across(limit) if low < limit <= high else None,
        "alt": "Histogram of lengths in tokens. " + "; ".join(str(bar["title"]) for bar in bars if bar["height"]) + ".",
    }


def _tick_step(most: int) -> int:
    """The distance of about four round numbers up to `most`."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if most <= factor * power * 4:
                return factor * power
        power *= 10


__all__ = ["render_html"]
