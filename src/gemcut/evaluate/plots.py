"""The report's pictures: bars of groups and a forest of tasks, on light or dark ground."""

from __future__ import annotations

import dataclasses
import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from gemcut.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PNG_DPI = 160
_MARKERS = {"llama-2-7b": "v", "llama-2-13b": "^", "mistral-7b": "s", "gemma-2b": "<", "gemma-7b": ">"}


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colours of a picture.

    Attributes:
        ground, ink, muted, line: Background, text, lesser text, rules.
        measured: What was measured here.
        own: The published score of the same model.
        columns: Published columns, by key.
    """

    ground: str
    ink: str
    muted: str
    line: str
    measured: str
    own: str
    columns: Mapping[str, str]


LIGHT = Theme(
    "#ffffff", "#1b2220", "#59635f", "#e2dfd7", "#0b6b5b", "#74399e",
    {"llama-2-7b": "#c3c8cc", "llama-2-13b": "#8f979e", "mistral-7b": "#d3a23c", "gemma-2b": "#a5bfeb",
     "gemma-7b": "#5583d1"},
)  # fmt: skip
DARK = Theme(
    "#1a1f1d", "#e6e9e6", "#98a39e", "#333c38", "#6fd3b9", "#cda9ef",
    {"llama-2-7b": "#59616a", "llama-2-13b": "#87919b", "mistral-7b": "#c2913a", "gemma-2b": "#46629a",
     "gemma-7b": "#7ba2e6"},
)  # fmt: skip


def group_bars(report: Mapping[str, Any], theme: Theme = LIGHT) -> Figure:
    """Means of each group: published columns, and what was measured with its 95 % interval.

    A group's bars are over the same members; these are printed below.
    """
    groups, baselines = report["groups"], report["baselines"]
    lines = [line for group in groups for line in textwrap.wrap(f"{group['name']}: {group['members_in_words']}", 126)]
    used = [key for key in baselines if any(key in group["published"] for group in groups)]
    head = 0.4 + 0.19 * math.ceil((len(used) + 1) / 3)  # inches: title and legend
    height = head + 2.97 + 0.16 * len(lines)
    figure = _figure(8.6, height, theme)
    axes = figure.add_axes((0.065, 1 - (head + 2.2) / height, 0.92, 2.2 / height))
    width = min(0.3, 0.86 / (len(used) + 1))
    for index, key in enumerate(used):
        places = [(place, group["published"][key]) for place, group in enumerate(groups) if key in group["published"]]
        bars = axes.bar(
            [place + (index - len(used) / 2) * width for place, _ in places], [value for _, value in places],
            width * 0.92, color=theme.columns[key], label=f"{baselines[key]} (published)",
        )  # fmt: skip
        axes.bar_label(bars, fmt="%.0f", fontsize=7, color=theme.muted, padding=1.5,
                       bbox={"facecolor": theme.ground, "edgecolor": "none", "pad": 0.4})  # fmt: skip
    measured = [(place + len(used) / 2 * width, group) for place, group in enumerate(groups) if group["measured"]]
    if measured:
        _measured_bars(axes, measured, width, report["model"]["name"], theme)
    axes.set_xlim(-0.55, len(groups) - 0.45)
    axes.set_ylim(0, 107)  # a label stands above a bar of 100
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("points", color=theme.ink, fontsize=9)
    axes.set_xticks(range(len(groups)), [_group_tick(group) for group in groups], fontsize=9, color=theme.ink)
    axes.yaxis.grid(True, color=theme.line, linewidth=0.8)
    _title(figure, "Groups: means of their members", theme)
    figure.legend(
        loc="upper left", bbox_to_anchor=(0.012, 1 - 0.3 / height), ncols=3, fontsize=8, frameon=False,
        labelcolor=theme.ink, handlelength=1.2, columnspacing=1.5,
    )  # fmt: skip
    figure.text(
        0.02, 1 - (head + 2.74) / height, "\n".join(lines), fontsize=7.5, color=theme.muted, va="top", linespacing=1.5
    )
    return figure


def _measured_bars(
    axes: Axes, measured: Sequence[tuple[float, Mapping[str, Any]]], width: float, name: str, theme: Theme
) -> None:
    bars = axes.bar(
        [place for place, _ in measured], [group["value"] for _, group in measured], width * 0.92, color=theme.measured,
        label=f"{_short(name)} (measured here, 95 % interval)",
    )  # fmt: skip
    known = [(place, group) for place, group in measured if group["low"] is not None]
    axes.errorbar(
        [place for place, _ in known], [group["value"] for _, group in known],
        yerr=[
            [group["value"] - group["low"] for _, group in known],
            [group["high"] - group["value"] for _, group in known],
        ],
        fmt="none", ecolor=theme.ink, elinewidth=1.1, capsize=2.5,
    )  # fmt: skip
    tops = [group["high"] or group["value"] for _, group in measured]
    for bar, top, (_, group) in zip(bars, tops, measured, strict=True):
        axes.annotate(
            f"{group['value']:.0f}", (bar.get_x() + bar.get_width() / 2, top), xytext=(0, 2), ha="center", va="bottom",
            textcoords="offset points", fontsize=7, fontweight="bold", color=theme.ink,
        )  # fmt: skip


def _group_tick(group: Mapping[str, Any]) -> str:
    if not group["measured"]:
        return f"{group['name']}\n(not measured)"
    if group["is_complete"]:
        return str(group["name"])
    return f"{group['name']}\n({len(group['measured'])} of {len(group['members'])} members)"


def task_forest(report: Mapping[str, Any], theme: Theme = LIGHT) -> Figure:
    """Each task's compared metric with its 95 % interval, and published scores beside it."""
    rows = [task for task in report["tasks"] if task["metrics"][0]["unit"] == "%"]
    used = [key for key in report["baselines"] if any(key in task["baselines"] for task in rows)]
    own = report["published_column"]["title"] if any(task["published"] for task in rows) else None
    handles = _forest_legend(report, used, own, theme)
    head = 0.42 + 0.19 * math.ceil(len(handles) / 3)  # inches: title and legend
    height = head + 0.6 + 0.38 * max(len(rows), 1)
    figure = _figure(8.6, height, theme)
    axes = figure.add_axes((0.25, 0.5 / height, 0.72, (height - head - 0.5) / height))
    for place, task in enumerate(rows):
        _forest_row(axes, place, task, theme)
    axes.set_yticks(range(len(rows)), [_row_name(task) for task in rows], fontsize=8.5, color=theme.ink)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel("points", color=theme.ink, fontsize=9)
    axes.xaxis.grid(True, color=theme.line, linewidth=0.8)
    _title(figure, f"Tasks: measured {'and published ' if len(handles) > 1 else ''}scores", theme)
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.02, 1 - 0.34 / height), ncols=3, fontsize=8, frameon=False,
        labelcolor=theme.ink, columnspacing=1.5,
    )  # fmt: skip
    return figure


def _forest_row(axes: Axes, place: int, task: Mapping[str, Any], theme: Theme) -> None:
    metric = task["metrics"][0]
    own = task["published"][0]["column"] if task["published"] else None
    for key, score in task["baselines"].items():
        if key != own:
            axes.plot(score, place, _MARKERS[key], color=theme.columns[key], markersize=5, zorder=4)
    if metric["low"] is not None:
        axes.plot([metric["low"], metric["high"]], [place, place], color=theme.measured, linewidth=2.4, zorder=3)
    axes.plot(metric["value"], place, "o", color=theme.measured, markersize=6.5, zorder=5, clip_on=False)
    for found in task["published"][:1]:
        axes.plot(
            found["score"], place, "D", markerfacecolor="none", markeredgecolor=theme.own, markeredgewidth=1.6,
            markersize=8.5, zorder=6, clip_on=False,
        )  # fmt: skip


def _forest_legend(report: Mapping[str, Any], used: Sequence[str], own: str | None, theme: Theme) -> list[Any]:
    from matplotlib.lines import Line2D

    name = _short(report["model"]["name"])
    label = f"{name} (measured here, 95 % interval)"
    handles = [Line2D([], [], color=theme.measured, marker="o", linewidth=2.4, markersize=6.5, label=label)]
    if own:
        handles.append(
            Line2D(
                [],
                [],
                linestyle="",
                marker="D",
                markerfacecolor="none",
                markeredgecolor=theme.own,
                markeredgewidth=1.6,
                markersize=7.5,
                label=f"{own} (published)",
            )
        )
    return handles + [
        Line2D([], [], linestyle="", marker=_MARKERS[key], color=theme.columns[key], markersize=5,
               label=f"{report['baselines'][key]} (published)")
        for key in used if report["baselines"][key] != own
    ]  # fmt: skip


def _row_name(task: Mapping[str, Any]) -> str:
    title = textwrap.shorten(task["title"], 28, placeholder="…")
    return f"{title}\n{task['num_shots']}-shot, {task['metrics'][0]['metric']}"


def _short(name: str, num_letters: int = 32) -> str:
    return name if len(name) <= num_letters else f"{name[: num_letters // 2 - 1]}…{name[-num_letters // 2 :]}"


def _figure(width: float, height: float, theme: Theme) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError(
            'Plots need Matplotlib, which is not installed. Install the extra: pip install "gemcut[eval]".'
        ) from None
    return Figure(figsize=(width, height), facecolor=theme.ground)


def _title(figure: Figure, text: str, theme: Theme) -> None:
    """The title; and axes without a frame."""
    figure.text(0.02, 1 - 0.1 / figure.get_figheight(), text, fontsize=11, fontweight="bold", color=theme.ink, va="top")
    for axes in figure.axes:
        axes.set_facecolor(theme.ground)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, colors=theme.ink, labelsize=8.5)
        for side in axes.spines.values():
            side.set_visible(False)


def figure_bytes(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """A picture as a file's bytes; the same picture gives the same bytes."""
    import matplotlib

    out = io.BytesIO()
    metadata = {"Date": None, "Creator": "Gemcut"} if kind == "svg" else {"Software": "Gemcut"}
    with matplotlib.rc_context({"svg.hashsalt": "gemcut", "svg.fonttype": "path"}):
        figure.savefig(out, format=kind, dpi=_PNG_DPI, facecolor=figure.get_facecolor(), metadata=metadata)
    return out.getvalue()
