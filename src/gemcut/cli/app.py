"""The command line as a whole: its commands, its exit codes, and how errors reach the user."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gemcut.cli.bench import bench
from gemcut.cli.chat import chat
from gemcut.cli.doctor import doctor
from gemcut.cli.output import print_error
from gemcut.cli.run import run
from gemcut.cli.show import show
from gemcut.errors import GemcutError, UsageError

EXIT_CODES = """\b
Exit codes: 0 done; 1 the work failed; 2 wrong use; 3 bad or unreadable model
or data; 4 not found; 75 interrupted with its state saved, run it again;
130 interrupted."""

MODEL_FORMS = """\b
MODEL is one of
  starter                        the small real model of the starter extra
  gemma-2b-it, gemma-3-1b-pt, mistral-7b-v0.1, ...
                                 a published name
  a path                         to a file or folder
  hf:ORG/REPO[/FILE][@REVISION]  in the Hugging Face cache
  kaggle:OWNER/MODEL/FRAMEWORK/VARIATION[/VERSION]
                                 in the Kaggle cache
  gs://BUCKET/PATH               in Gemcut's cache
A model named like a command needs a path: ./chat."""

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

# Where an error names a command that this version lacks, this says what to do instead.
_INSTEAD = {
    "pull": "Download with the hub's own client, for example `hf download ORG/REPO`; gemcut finds what that leaves.",
}


class Commands(TyperGroup):
    """The sub-commands; one that a later version brings is told from one that never was."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command called `cmd_name`.

        Raises:
            UsageError: it is reserved for a later version.
        """
        from gemcut.hub import COMMAND_NAMES

        command = super().get_command(ctx, cmd_name)
        if command is None and cmd_name in COMMAND_NAMES:
            instead = _INSTEAD.get(cmd_name, "`gemcut --help` lists what it has.")
            raise UsageError(f"gemcut {cmd_name}: this version of Gemcut does not have this command. {instead}")
        return command


app = typer.Typer(
    name="gemcut",
    cls=Commands,
    help="Take an open model of the Gemma family down its whole road.",
    epilog=f"{MODEL_FORMS}\n\n{EXIT_CODES}",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        import gemcut

        typer.echo(f"gemcut {gemcut.__version__}")
        raise typer.Exit


@app.callback()
def gemcut_command(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Take an open model of the Gemma family down its whole road."""


RUN_EXAMPLES = """\b
Examples:
  gemcut run starter "The capital of France is" --max-tokens 20
  gemcut run starter --file story.txt --temperature 0.8 --top-p 0.9 --seed 7
  echo "Once upon a time" | gemcut run starter --json
  gemcut run ./gemma-3-1b-it --chat "Why is the sky blue?" """.rstrip()
CHAT_EXAMPLES = """\b
Examples:
  gemcut chat ./gemma-3-1b-it
  gemcut chat ./gemma-3-1b-it --system "Answer in one sentence."

\b
Inside: /help lists the commands; a line that ends in a backslash goes on in
the next; \"\"\" begins and ends a message of several lines; Ctrl-C stops an
answer, and leaves at the prompt."""
SHOW_EXAMPLES = """\b
Examples:
  gemcut show starter
  gemcut show gemma-7b --context 8192
  gemcut show ./model.gguf --json"""
DOCTOR_EXAMPLES = """\b
Examples:
  gemcut doctor
  gemcut doctor --json"""
BENCH_EXAMPLES = """\b
Examples:
  gemcut bench starter
  gemcut bench starter --engine jax --prompt-tokens 128 --json
  gemcut bench gemma-2b --random-weights --dtype bfloat16"""

app.command("run", epilog=RUN_EXAMPLES, context_settings=_CONTEXT)(run)
app.command("chat", epilog=CHAT_EXAMPLES, context_settings=_CONTEXT)(chat)
app.command("show", epilog=SHOW_EXAMPLES, context_settings=_CONTEXT)(show)
app.command("doctor", epilog=DOCTOR_EXAMPLES, context_settings=_CONTEXT)(doctor)
app.command("bench", epilog=BENCH_EXAMPLES, context_settings=_CONTEXT)(bench)


def main() -> None:
    """Run the command line and leave with its exit code; only GEMCUT_DEBUG=1 lets a traceback through."""
    is_debugging = os.environ.get("GEMCUT_DEBUG") == "1"
    try:
        app(prog_name="gemcut")
    except GemcutError as error:
        if is_debugging:
            raise
        print_error(str(error))
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if is_debugging:
            raise
        print_error(f"{type(error).__name__}: {error}. This is a fault of Gemcut; GEMCUT_DEBUG=1 shows where.")
        raise SystemExit(1) from None
