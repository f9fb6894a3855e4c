"""`gemcut bench`: how fast a model is here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gemcut.cli import options
from gemcut.cli.output import busy, print_fields, print_json, size_in_words

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
    adapter: options.AdapterOption = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Measure how fast a model is here, and what it takes.

    Prefill and decode speed, time to the first token, loading time and memory: medians of several runs after one that
    compiles. With --random-weights a published model need not be downloaded.
    """
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
            adapter=adapter,
        )
    if json:
        print_json(figures)
    else:
        print_fields(_for_people(figures))


def _for_people(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures in words and units."""
    batch = figures["batch"]
    unit = "tokens/s" if batch == 1 else f"tokens/s, all {batch} sequences together"
    work = [f"{figures['prompt_tokens']:,} prompt tokens", f"{figures['decode_tokens']:,} decoded tokens"]
    if figures["depth"]:
        work.append(f"after {figures['depth']:,} tokens in the cache")
    if batch > 1:
        work.append(f"{batch} sequences at once")
    return {
        "model": f"{figures['model']}{', random weights' if figures['random_weights'] else ''}",
        "engine": f"{figures['engine']}, {figures['dtype']}, {figures['device']}, {figures['threads']} threads",
        "work": f"{', '.join(work)}; median of {figures['repeats']} runs after a first one",
        "prefill": f"{figures['prefill_tokens_per_second']:,.1f} {unit}",
        "decode": f"{figures['decode_tokens_per_second']:,.1f} {unit}",
        "first token": f"{figures['time_to_first_token_seconds']:.3f} s after the prompt",
        "load": f"{figures['load_seconds']:.1f} s",
        "first run": f"{figures['first_run_seconds']:.1f} s, compiling included",
        "weights": f"{size_in_words(figures['weights_bytes'])} in {figures['dtype']}",
        "peak memory": f"{size_in_words(figures['peak_memory_bytes'])} of this process",
        "versions": ", ".join(f"{name} {version}" for name, version in figures["versions"].items()),
    }
