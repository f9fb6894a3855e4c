"""Curves of a run as one SVG picture: the loss of each step and of what is held out, below them the learning rate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2
import markupsafe

from gemcut.tune.run_log import EVALUATION, STEP

WIDTH, HEIGHT = 880, 420
_LEFT, _RIGHT = 56, 864
_LOSS, _RATE = (24, 280), (322, 392)  # top and bottom of the two plots
_MAX_POINTS = 600
_SMOOTHING_STEPS = 25


@dataclasses.dataclass(frozen=True)
class Scale:
    """A linear scale from values to places in the picture."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value."""
        return round(self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin), 1)


def curves_svg(entries: Sequence[dict[str, Any]], *, is_page: bool = False) -> str:
    """The picture of a run's log.

    Args:
        entries: From `read_log`, at least one step among them.
        is_page: Whether it goes into an HTML page, whose style it takes; else it brings its own.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    folder = resources.files("gemcut.tune")
    template = environment.from_string((folder / "curves.svg.jinja").read_text(encoding="utf-8"))
    style = "" if is_page else markupsafe.Markup((folder / "curves.css").read_text(encoding="utf-8"))
    return template.render(p=_picture(entries), style=style)


def smoothed(values: Sequence[float]) -> list[float]:
    """Running mean of each value and those before it, newer ones weighing more; the first is itself."""
    kept = 1 - 1 / min(_SMOOTHING_STEPS, max(1, len(values) / 4))
    result, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = kept * total + value, kept * weight + 1
        result.append(total / weight)
    return result


def _picture(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Where everything stands."""
    steps = [entry for entry in entries if entry["kind"] == STEP and entry["loss"] is not None]
    held_out = [entry for entry in entries if entry["kind"] == EVALUATION and entry["loss"] is not None]
    losses = [entry["loss"] for entry in steps]
    numbers, smooth = [entry["step"] for entry in steps], smoothed(losses)
    seen = [*smooth, *_percentiles(losses), *(entry["loss"] for entry in held_out)]
    across = Scale(0, max(entry["step"] for entry in [*steps, *held_out]), _LEFT, _RIGHT)
    ticks = _ticks(min(seen), max(seen))
    up = Scale(ticks[0], ticks[-1], _LOSS[1], _LOSS[0])
    highest = max((entry["learning_rate"] for entry in steps), default=0) or 1.0
    rate = Scale(0, highest, _RATE[1], _RATE[0])
    return {
        "width": WIDTH, "height": HEIGHT, "left": _LEFT, "right": _RIGHT, "bottom": _LOSS[1], "rate_bottom": _RATE[1],
        "ticks": [(up(tick), f"{tick:g}") for tick in ticks],
        "steps": [(across(tick), f"{tick:,.0f}") for tick in _ticks(0, across.high) if tick <= across.high],
        "dots": [
            (across(entry["step"]), min(max(up(entry["loss"]), _LOSS[0]), _LOSS[1])) for entry in _thinned(steps)
        ],
        "line": _path([(across(step), up(loss)) for step, loss in _thinned(list(zip(numbers, smooth, strict=True)))]),
        "held_out": [(across(entry["step"]), up(entry["loss"]), f"{entry['loss']:.4f}") for entry in held_out],
        "held_out_line": _path([(across(entry["step"]), up(entry["loss"])) for entry in held_out]),
        "rate_line": _path([(across(entry["step"]), rate(entry["learning_rate"])) for entry in _thinned(steps)]),
        "highest": (rate(highest), f"{highest:.3g}"),
        "alt": _alt(losses, held_out),
    }  # fmt: skip


def _alt(losses: Sequence[float], held_out: Sequence[dict[str, Any]]) -> str:
    """The picture in words."""
    words = f"The loss over {len(losses):,} steps: {losses[0]:.3f} at first, {smoothed(losses)[-1]:.3f} at last"
    if held_out:
        words += f"; of what is held out {held_out[0]['loss']:.3f} at first, {held_out[-1]['loss']:.3f} at last"
    return words + "."


def _thinned(values: Sequence[Any]) -> list[Any]:
    """At most _MAX_POINTS of them, the last one included."""
    every = -(-len(values) // _MAX_POINTS)
    return [*values[:-1:every], *values[-1:]]


def _percentiles(losses: Sequence[float]) -> tuple[float, float]:
    """Between these most losses lie; a few wild ones do not flatten the rest."""
    ordered = sorted(losses)
    return ordered[len(ordered) // 50], ordered[-1 - len(ordered) // 50]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{'L' if index else 'M'}{x} {y}" for index, (x, y) in enumerate(points))


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from below `low` to above `high`, four to eight of them."""
    span = max(high - low, abs(high) * 1e-3, 1e-6)
    unit = 10 ** math.floor(math.log10(span / 4))
    step = next(unit * factor for factor in (1, 2, 5, 10) if span / (unit * factor) <= 7)
    first = math.floor(low / step)
    return [round(index * step, 12) for index in range(first, math.ceil(high / step) + 1)] + (
        [round((first + 1) * step, 12)] if math.ceil(high / step) == first else []
    )
