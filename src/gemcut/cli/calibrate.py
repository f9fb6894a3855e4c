"""`gemcut calibrate`: which inputs matter, for better quantising."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gemcut.cli import options
from gemcut.cli.output import print_fields, print_json
from gemcut.cli.progress import progress_bar

TextArgument = Annotated[Path, typer.Argument(metavar="TEXT", help="A UTF-8 text such as the model will meet.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The importance file to write.")]
TokensOption = Annotated[int, typer.Option(min=512, metavar="N", help="Tokens of the text to use, at most.")]


def calibrate(
    model: options.ModelArgument,
    text: TextArgument,
    *,
    output: OutputOption,
    tokens: TokensOption = 20480,
    engine: options.EngineOption = options.Engine.auto,
    threads: options.ThreadsOption = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Collect an importance file: how large the inputs of every matrix are on a text.

    `gemcut convert --importance FILE` spends the error of quantising where inputs are small. llama.cpp reads the file
    too, and its own imatrix files work here. Use the model before it is quantised. Needs a Keras engine; auto takes
    the first of jax, tensorflow and torch that is installed.
    """
    from gemcut.inspect import calibrate as collect

    with progress_bar(quiet) as progress:
        facts = collect(model, text, output, engine=engine.value, num_tokens=tokens, threads=threads, progress=progress)
    if json:
        print_json(facts)
        return
    print_fields(
        {
            "written": facts["target"],
            "tokens": f"{facts['tokens']:,} on {facts['engine']}",
            "tensors": f"{facts['tensors']:,}",
        }
    )
