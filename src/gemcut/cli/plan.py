"""`gemcut plan`: whether a model fits a device, and how fast it can be there."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from gemcut.cli import options
from gemcut.cli.output import busy, print_fields, print_json, size_in_words


class Tuning(enum.StrEnum):
    """What is trained."""

    lora = "lora"
    full = "full"


ContextOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Tokens of a sequence [default: 8192, 2048 to tune, or the model's]."),
]
OnOption = Annotated[
    str | None, typer.Option("--on", metavar="NAME", help="A device of the hardware file [default: this machine].")
]
HardwareOption = Annotated[
    Path | None,
    typer.Option("--hardware", metavar="FILE", help="TOML with devices of your own [default: $GEMCUT_HARDWARE]."),
]
TuneOption = Annotated[Tuning | None, typer.Option(help="Plan for training instead of answering.", show_default=False)]
BatchOption = Annotated[int, typer.Option(min=1, metavar="N", help="Sequences at once.")]
TypeOption = Annotated[
    str | None,
    typer.Option("--type", metavar="T", help="How weights are stored, as in convert [default: as they are, or BF16]."),
]


def plan(
    model: options.ModelArgument,
    *,
    on: OnOption = None,
    hardware: HardwareOption = None,
    context: ContextOption = None,
    tune: TuneOption = None,
    batch: BatchOption = 1,
    type: TypeOption = None,
    threads: options.ThreadsOption = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Reckon whether a model fits, what takes the memory, and how fast it can be.

    A published name needs no files. This machine is measured for about two seconds; other devices come from a dated
    file, and their speeds are what bandwidth and arithmetic allow at most. A price is shown only where a dated source
    gives one. The exit code is 0 whether it fits or not.
    """
    from gemcut.inspect import plan as reckon

    with busy("Measuring this machine ...", quiet or on is not None):
        facts = reckon(
            model,
            on=on,
            hardware_file=hardware,
            context=context,
            tune=tune.value if tune else None,
            batch=batch,
            type=type,
            threads=threads,
        )
    if json:
        print_json(facts)
    else:
        print_fields(_for_people(facts))


def _for_people(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts in words and units."""
    model, device, memory = facts["model"], facts["hardware"], facts["memory"]
    fits = "yes" if facts["fits"] else "NO"
    room = size_in_words(abs(facts["free_bytes"]))
    work = f"{facts['batch']} x {facts['context']:,} tokens"
    return {
        "model": f"{model['reference']}, {model['parameters']:,} parameters, {model['types']}",
        "on": f"{device['name']}, {size_in_words(device['memory_bytes'])}, "
        f"{device['bandwidth_bytes_per_second'] / 1e9:,.0f} GB/s ({device['source']}, {device['date']})",
        "work": f"{'tuning (' + facts['tune'] + ')' if facts['tune'] else 'answering'}, {work}",
        "fits": f"{fits}, {room} {'left' if facts['fits'] else 'too little'}; "
        f"the longest context that fits is {facts['largest_context']:,} tokens",
        "memory": {name.replace("_", " "): f"{size_in_words(size):>10}" for name, size in memory.items()}
        | {"total": f"{size_in_words(facts['total_bytes']):>10}"},
        "speed": _speed(facts),
        "cost": _cost(facts["cost"]),
    }


def _speed(facts: dict[str, Any]) -> dict[str, str]:
    speed = facts["speed"]
    known = "; measured bandwidth" if facts["hardware"]["is_measured"] else " at most"

    def rate(name: str, note: str = " at most") -> str:
        value = speed[name]
        return f"{value:,.1f} tokens/s{note}" if value else "not known: no figure for this arithmetic"

    if facts["tune"]:
        return {"training": rate("train_tokens_per_second")}
    return {
        f"prefill of {speed['prompt_tokens']:,} tokens": rate("prefill_tokens_per_second"),
        f"decoding after {speed['prompt_tokens']:,}": rate("decode_tokens_per_second", known),
        f"decoding after {facts['context']:,}": rate("decode_tokens_per_second_at_full_context", known),
    }


def _cost(cost: dict[str, Any] | None) -> dict[str, str] | str:
    if cost is None:
        return "not known: the hardware file has no dated price for it"
    rows = {"an hour": f"${cost['per_hour']:,.2f} ({cost['source']}, {cost['date']})"}
    return rows | {
        f"a million tokens, {name.replace('_', ' ')}": f"${price:,.2f}"
        for name, price in cost["per_million_tokens"].items()
    }
