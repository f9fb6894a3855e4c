"""`gemcut run`: complete one prompt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gemcut.cli import options
from gemcut.cli.download import pull_missing
from gemcut.cli.output import follow, load_model, print_json, print_notice, write_answer
from gemcut.errors import DataError, NotFoundError, UsageError

PromptArgument = Annotated[
    str | None, typer.Argument(metavar="PROMPT", show_default=False, help="The text to continue.")
]
ChatOption = Annotated[bool, typer.Option("--chat", help="Put the prompt into the model's chat template.")]


def run(
    model: options.ModelArgument,
    prompt: PromptArgument = None,
    *,
    file: options.FileOption = None,
    chat: ChatOption = False,
    system: options.SystemOption = None,
    max_tokens: options.MaxTokensOption = 64,
    temperature: options.TemperatureOption = None,
    top_k: options.TopKOption = None,
    top_p: options.TopPOption = None,
    min_p: options.MinPOption = None,
    repetition_penalty: options.RepetitionPenaltyOption = None,
    seed: options.SeedOption = None,
    stop: options.StopOption = None,
    engine: options.EngineOption = options.Engine.auto,
    dtype: options.DtypeOption = options.Dtype.auto,
    threads: options.ThreadsOption = None,
    context: options.ContextOption = None,
    adapter: options.AdapterOption = None,
    pull: options.PullOption = False,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Complete a prompt: PROMPT, a file, or standard input.

    The answer is streamed to standard output as it is generated, greedily unless --temperature is above 0. One
    newline at the end of a file or of standard input does not belong to the prompt.
    """
    if system is not None and not chat:
        raise UsageError("--system is given without --chat. Add --chat, or put the text into the prompt.")
    sampling = options.given(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    options.check_not_greedy(sampling, temperature)
    text = _read_prompt(prompt, file, quiet)
    if pull:
        pull_missing(model, quiet)
    lm = load_model(
        model,
        engine=engine.value,
        dtype=dtype.value,
        threads=threads,
        context=context,
        adapter=adapter,
        quiet=quiet,
    )
    # The template only: sampling stays greedy unless told otherwise, whatever the model's own settings are.
    whole = lm.chat_prompt([{"role": "user", "content": text}], system=system) if chat else text
    pieces = lm.stream(whole, max_tokens=max_tokens, stop=stop or (), **sampling)
    answer = follow(iter(pieces), echo=not json, quiet=quiet)
    if json:
        print_json(answer.as_json(lm.engine))
    else:
        write_answer("\n")
    print_notice(answer.speed(), quiet)
    lm.close()
    if answer.is_interrupted:
        raise typer.Exit(130)


def _read_prompt(prompt: str | None, file: Path | None, quiet: bool) -> str:
    """The prompt from the one place that gives it, checked to be text."""
    if prompt is not None and file is not None:
        raise UsageError("PROMPT and --file are both given. Give one of them.")
    where = "PROMPT" if file is None else f"--file {file}"
    if prompt is None:
        if file is None:
            where = "standard input"
            if sys.stdin.isatty():
                print_notice("Reading the prompt; end it with Ctrl-D.", quiet)
            data = sys.stdin.buffer.read()
        else:
            data = _read_file(file)
    else:
        data = prompt.encode("utf-8", errors="surrogateescape")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte {error.start} is not UTF-8, expected text in UTF-8. Convert it.") from None
    if prompt is None:
        text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise UsageError(
            f"{where} is empty, expected the text to continue. Give PROMPT, --file PATH or standard input."
        )
    return text


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"--file {path}: no such file. Check the path.") from None
    except OSError as error:
        raise DataError(f"--file {path}: cannot be read ({error.strerror}). Give a readable text file.") from None
