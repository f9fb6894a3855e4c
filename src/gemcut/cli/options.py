"""Arguments and options that several commands share, and what they mean together."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from gemcut.errors import UsageError


class Engine(enum.StrEnum):
    """What computes the model."""

    auto = "auto"
    native = "native"
    jax = "jax"
    torch = "torch"
    tensorflow = "tensorflow"


class Dtype(enum.StrEnum):
    """What the model computes in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="The model; `gemcut --help` lists the forms.")]
EngineOption = Annotated[Engine, typer.Option(help="What computes the model; auto prints its choice.")]
DtypeOption = Annotated[Dtype, typer.Option(help="Number format to compute in; auto prints its choice.")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="CPU threads [default: all cores].")]
ContextOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Tokens of prompt and answer together [default: the model's].")
]
AdapterOption = Annotated[
    Path | None, typer.Option(metavar="PATH", help="Add this LoRA adapter: a folder as PEFT saves it.")
]
SystemOption = Annotated[str | None, typer.Option(metavar="TEXT", help="System instruction of the chat.")]
FileOption = Annotated[Path | None, typer.Option(metavar="PATH", help="Read the prompt from this UTF-8 file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
PullOption = Annotated[bool, typer.Option("--pull", help="Download the model first where it is not here.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print nothing but the answer and errors.")]

MaxTokensOption = Annotated[int, typer.Option(min=1, metavar="N", help="Tokens to generate at most.")]
TemperatureOption = Annotated[
    float | None, typer.Option(metavar="X", help="Divide the logits by this; 0 is greedy and exact.")
]
TopKOption = Annotated[int | None, typer.Option(metavar="K", help="Keep the K most probable tokens; 0 keeps all.")]
TopPOption = Annotated[
    float | None, typer.Option(metavar="P", help="Keep the most probable tokens up to this total probability.")
]
MinPOption = Annotated[
    float | None, typer.Option(metavar="P", help="Drop tokens below this share of the best one's probability.")
]
RepetitionPenaltyOption = Annotated[
    float | None, typer.Option(metavar="X", help="Make tokens seen before less likely; 1 is off.")
]
SeedOption = Annotated[int | None, typer.Option(metavar="N", help="The same seed gives the same text.")]
StopOption = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="End the answer before this text; may be given again.")
]

_FLAGS = {
    "temperature": "--temperature",
    "top_k": "--top-k",
    "top_p": "--top-p",
    "min_p": "--min-p",
    "repetition_penalty": "--repetition-penalty",
    "seed": "--seed",
}


def given(**options: Any) -> dict[str, Any]:
    """The sampling options that the user gave: those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def check_not_greedy(sampling: dict[str, Any], temperature: float | None) -> None:
    """Refuse options that a greedy choice would silently ignore.

    Args:
        sampling: What the user gave.
        temperature: The temperature that will hold; None is greedy.

    Raises:
        UsageError: top-k, top-p or min-p without a temperature above 0.
    """
    if temperature:
        return
    for name in ("top_k", "top_p", "min_p"):
        if name in sampling:
            raise UsageError(
                f"{_FLAGS[name]} {sampling[name]} has no effect at temperature 0, where the most probable token is "
                "taken. Add --temperature with a number above 0, or leave it out."
            )
