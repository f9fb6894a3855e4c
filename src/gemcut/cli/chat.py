"""`gemcut chat`: a conversation at the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemcut.cli import options
from gemcut.cli.conversation import Conversation, read_message
from gemcut.cli.download import pull_missing
from gemcut.cli.output import follow, load_model, print_error, print_json, print_notice, write_answer
from gemcut.cli.remote_model import RemoteModel
from gemcut.errors import GemcutError, UsageError

if TYPE_CHECKING:
    from gemcut.generate import TextModel

DEFAULT_MODEL = "starter-it"
ChatModelArgument = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", help=f"An instruction-tuned model [default: {DEFAULT_MODEL}].", show_default=False),
]
ServerOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Talk with a model of this OpenAI-compatible server instead.")
]
RemoteNameOption = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Which of the server's models [default: its first].")
]
RemoteKeyOption = Annotated[
    str | None, typer.Option(metavar="KEY", envvar="GEMCUT_API_KEY", help="Key that opens the server.")
]


def chat(
    model: ChatModelArgument = None,
    *,
    server: ServerOption = None,
    model_name: RemoteNameOption = None,
    api_key: RemoteKeyOption = None,
    system: options.SystemOption = None,
    max_tokens: options.MaxTokensOption = 1024,
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
    """Talk with an instruction-tuned model, with history.

    Sampling follows the model's own generation_config.json, which is printed, where no option says otherwise. With
    --json every answer is one line of JSON. With --server the model is another process's, here or elsewhere.
    """
    lm: TextModel | RemoteModel
    if server is not None:
        if model is not None:
            raise UsageError(f"{model}: --server has its own models. Name one by --model.")
        lm = RemoteModel(server, model_name, api_key)
        print_notice(f"{server}: {lm.name}, engine {lm.engine}", quiet)
    else:
        if model_name is not None:
            raise UsageError(f"--model {model_name}: it goes with --server. Give MODEL alone.")
        load = partial(load_model, engine=engine.value, dtype=dtype.value, threads=threads, context=context)
        model = model or DEFAULT_MODEL
        lm = _local(model, partial(load, adapter=adapter, quiet=quiet), pull=pull, quiet=quiet)
    if not lm.is_instruction_tuned:
        name, advice = (model, f'Use: gemcut run {model} "TEXT"') if server is None else (server, "Take another.")
        raise UsageError(f"{name}: this is a base model; it continues text and was not trained to talk. {advice}")
    chosen = options.given(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    sampling = {**lm.defaults, **chosen}
    options.check_not_greedy(chosen, sampling.get("temperature"))
    print_notice(f"sampling: {_in_words(sampling)}. /help lists commands.", quiet)
    settings = {"max_tokens": max_tokens, "stop": stop or (), **sampling}
    talk(lm, Conversation(system), settings, as_json=json, quiet=quiet)
    lm.close()


def _local(model: str, load: Callable[[str], TextModel], *, pull: bool, quiet: bool) -> TextModel:
    """A model of this machine."""
    from gemcut.hub import resolve

    if pull:
        pull_missing(model, quiet)
    resolve(model)
    return load(model)


def _in_words(sampling: dict[str, Any]) -> str:
    """The sampling that holds; at temperature 0 only penalties have a say."""
    if sampling.get("temperature"):
        return ", ".join(f"{name} {value}" for name, value in sampling.items())
    penalty = sampling.get("repetition_penalty")
    return f"greedy, repetition_penalty {penalty}" if penalty else "greedy"


def talk(
    lm: TextModel | RemoteModel, conversation: Conversation, settings: dict[str, Any], *, as_json: bool, quiet: bool
) -> None:
    """Ask and answer until the user leaves; an error ends the turn, not the conversation."""
    while True:
        try:
            line = read_message()
        except (EOFError, KeyboardInterrupt) as end:
            print_notice("", quiet or not sys.stdin.isatty())
            if isinstance(end, KeyboardInterrupt):
                raise typer.Exit(130) from None
            return
        if line.strip() in ("/exit", "/quit"):
            return
        try:
            if line.startswith("/") and not line.startswith("//"):
                print_notice(conversation.command(line.strip()))
            elif line.strip():
                conversation.ask(line.removeprefix("/") if line.startswith("//") else line)
                _answer(lm, conversation, settings, as_json=as_json, quiet=quiet)
        except GemcutError as error:
            print_error(str(error))


def _answer(
    lm: TextModel | RemoteModel, conversation: Conversation, settings: dict[str, Any], *, as_json: bool, quiet: bool
) -> None:
    """Stream the answer to the last question; Ctrl-C stops it and keeps what was said."""
    try:
        pieces = lm.chat_stream(list(conversation.messages), system=conversation.system, **settings)
        answer = follow(iter(pieces), echo=not as_json, quiet=quiet)
    except GemcutError:
        conversation.undo()
        raise
    if as_json:
        print_json(answer.as_json(lm.engine))
    else:
        write_answer("\n")
    conversation.answer(answer.text)
    print_notice(answer.speed(), quiet)
