"""`gemcut bench`: how fast a model is here."""

from __future__ import annotations

from typing import Annotated

import typer

from gemcut.cli import options
from gemcut.cli.output import busy, print_fields, print_json

PromptTokensOption = Annotated[int, typer.Option(min=1, metavar="N", help="Tokens of the prompt that is timed.")]
DecodeTokensOption = Annotated[int, typer.Option(min=1, metavar="N", help="Tokens generated and timed.")]
DepthOption = Annotated[int, typer.Option(min=0, metavar="N", help="Tokens already in the cache before the prompt.")]
BatchOption = Annotated[int, typer.Option(min=1, metavar="N", help="Sequences at once.")]
RandomWeightsOption = Annotated[
    bool, typer.Option("--random-weights", help="Random weights of a published size, without its files.")
]


def bench(
    model: options.ModelArgument,
    *,
    prompt_tokens: PromptTokensOption = 512,
    decode_tokens: DecodeTokensOption = 64,
    depth: DepthOption = 0,
    batch: BatchOption = 1,
    random_weights: RandomWeightsOption = False,
    engine: options.EngineOption = options.Engine.auto,
    dtype: options.DtypeOption = options.Dtype.auto,
    threads: options.ThreadsOption = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Measure prefill and decode speed, time to the first token, loading time and memory."""
    from gemcut.inspect.bench import bench as measure

    with busy(f"Measuring {model} ...", quiet):
        figures = measure(
            model,
            prompt_tokens=prompt_tokens,
            decode_tokens=decode_tokens,
            depth=depth,
            batch=batch,
            random_weights=random_weights,
            engine=engine.value,
            dtype=dtype.value,
            threads=threads,
        )
    if json:
        print_json(figures)
    else:
        print_fields({name: _rounded(value) for name, value in figures.items()})


def _rounded(value: object) -> object:
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
