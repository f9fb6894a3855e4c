"""`gemcut serve`: models over HTTP."""

from __future__ import annotations

import enum
import functools
from typing import TYPE_CHECKING, Annotated

import typer

from gemcut.cli import options
from gemcut.cli.download import pull_missing
from gemcut.cli.output import load_model, print_notice

if TYPE_CHECKING:
    from gemcut.serve.server import Server


class LogFormat(enum.StrEnum):
    """How the log is written."""

    text = "text"
    json = "json"


HostOption = Annotated[str, typer.Option(metavar="HOST", help="Address to listen on; 0.0.0.0 is every one.")]
PortOption = Annotated[
    int, typer.Option(min=0, max=65535, metavar="N", envvar="PORT", help="TCP port; 0 takes a free one.")
]
KeyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--api-key", metavar="KEY", envvar="GEMCUT_API_KEY", help="Let in who has this key; may be given again."
    ),
]
NoAuthOption = Annotated[bool, typer.Option("--no-auth", help="Listen beyond this machine without a key.")]
OriginOption = Annotated[
    list[str] | None, typer.Option(metavar="URL", help="Let web pages of this origin call it; may be given again.")
]
AllowHostOption = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="A name it may be called by; may be given again.")
]
NameOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="What clients call the model [default: after MODEL].")
]
AdaptersOption = Annotated[
    list[str] | None,
    typer.Option("--adapter", metavar="NAME=PATH", help="Also serve it with this LoRA adapter, as MODEL+NAME."),
]
ParallelOption = Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Texts generated side by side.")]
QueueOption = Annotated[int, typer.Option(min=0, metavar="N", help="Texts that may wait for their turn.")]
MaxBodyOption = Annotated[int, typer.Option(min=1024, metavar="BYTES", help="Longest request body.")]
RequestSecondsOption = Annotated[
    float | None, typer.Option(min=0.001, metavar="S", help="Time one request may take [default: any].")
]
KeepAliveOption = Annotated[
    float, typer.Option(min=0, metavar="S", help="A silent stream sends a comment so often; 0 for never.")
]
StallOption = Annotated[float, typer.Option(min=0.1, metavar="S", help="Let a client go that takes nothing.")]
DrainOption = Annotated[float, typer.Option(min=0, metavar="S", help="Time for running requests after SIGTERM.")]
LogFormatOption = Annotated[LogFormat, typer.Option(help="How the log on standard error is written.")]
LogPromptsOption = Annotated[bool, typer.Option("--log-prompts", help="Log prompts and answers.")]
VllmNamesOption = Annotated[
    bool, typer.Option("--vllm-metric-names", help="Also give the gauges of gateways under vLLM's names.")
]


def serve(
    model: options.ModelArgument,
    *,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    api_key: KeyOption = None,
    no_auth: NoAuthOption = False,
    allow_origin: OriginOption = None,
    allow_host: AllowHostOption = None,
    model_name: NameOption = None,
    adapter: AdaptersOption = None,
    parallel: ParallelOption = 8,
    queue: QueueOption = 128,
    max_body: MaxBodyOption = 4 << 20,
    request_seconds: RequestSecondsOption = None,
    keep_alive_seconds: KeepAliveOption = 15.0,
    stall_seconds: StallOption = 30.0,
    drain_seconds: DrainOption = 30.0,
    log_format: LogFormatOption = LogFormat.text,
    log_prompts: LogPromptsOption = False,
    vllm_metric_names: VllmNamesOption = False,
    engine: options.EngineOption = options.Engine.auto,
    dtype: options.DtypeOption = options.Dtype.auto,
    threads: options.ThreadsOption = None,
    context: options.ContextOption = None,
    pull: options.PullOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Serve a model to OpenAI's clients, with a chat page at /.

    Without --host only this machine is served. SIGTERM and Ctrl-C let running requests finish and take no new ones; a
    second Ctrl-C ends at once.
    """
    from gemcut.hub import resolve
    from gemcut.serve import ServerSettings, adapter_of, load_served, served_name
    from gemcut.serve import serve as serve_models

    settings = ServerSettings(
        host=host,
        port=port,
        api_keys=tuple(api_key or ()),
        allow_no_auth=no_auth,
        allow_origins=tuple(allow_origin or ()),
        allow_hosts=tuple(allow_host or ()),
        parallel=parallel,
        max_waiting=queue,
        max_body_bytes=max_body,
        max_seconds=request_seconds,
        keep_alive_seconds=keep_alive_seconds,
        stall_seconds=stall_seconds,
        drain_seconds=drain_seconds,
        log_format=log_format.value,
        log_prompts=log_prompts,
        vllm_metric_names=vllm_metric_names,
    )
    adapters = dict(map(adapter_of, adapter or ()))
    if pull:
        pull_missing(model, quiet)
    resolve(model)
    load = functools.partial(
        load_model,
        model,
        engine=engine.value,
        dtype=dtype.value,
        threads=threads,
        context=context,
        quiet=quiet,
    )
    num_lost = serve_models(
        settings,
        lambda: load_served(
            model_name or served_name(model),
            adapters,
            lambda path: load(adapter=path),
            parallel=parallel,
            max_waiting=queue,
        ),
        lambda server, url: print_notice(_banner(server, url), quiet),
    )
    if num_lost:
        raise typer.Exit(1)


def _banner(server: Server, url: str) -> str:
    """What is served, where, and how to ask."""
    settings, models = server.settings, list(server.opened())
    first = models[0]
    lm = first.text_model
    kind = "" if lm.is_instruction_tuned else " (a base model: it continues text and was not trained to talk)"
    key = ' -H "Authorization: Bearer KEY"' if settings.api_keys else ""
    path, body = (
        ("chat/completions", '{"messages": [{"role": "user", "content": "Hello"}]}')
        if lm.is_instruction_tuned
        else ("completions", '{"prompt": "The planets are"}')
    )
    sampling = ", ".join(f"{name} {value}" for name, value in first.defaults.items())
    lines = [
        f"Serving {', '.join(model.name for model in models)}{kind}",
        f"  API        {url}/v1" + ("" if settings.api_keys else "  (no key)"),
        f"  chat page  {url}/",
        f"  engine     {lm.engine} in {lm.dtype} on {lm.device}, {lm.num_threads} threads",
        f"  context    {lm.context:,} tokens; {settings.parallel} texts side by side, {settings.max_waiting} may wait",
        f"  sampling   {sampling}, where a request says nothing",
        f"  try        curl {url}/v1/{path}{key} -d '{body}'",
    ]
    return "\n".join(lines)
