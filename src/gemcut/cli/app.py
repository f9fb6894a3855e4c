"""The command line as a whole: its commands, its exit codes, and how errors reach the user."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gemcut.cli import eval as eval_command
from gemcut.cli import eval_claims, eval_compare, eval_fetch, eval_report, eval_tasks
from gemcut.cli.bench import bench
from gemcut.cli.calibrate import calibrate
from gemcut.cli.chat import chat
from gemcut.cli.check_licence import check_licence
from gemcut.cli.convert import convert
from gemcut.cli.doctor import doctor
from gemcut.cli.models import models
from gemcut.cli.output import print_error
from gemcut.cli.plan import plan
from gemcut.cli.pull import pull
from gemcut.cli.rm import rm
from gemcut.cli.run import run
from gemcut.cli.serve import serve
from gemcut.cli.show import show
from gemcut.cli.tune import EXAMPLES as TUNE_EXAMPLES
from gemcut.cli.tune import tune
from gemcut.cli.verify import verify
from gemcut.errors import GemcutError

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


class Commands(TyperGroup):
    """The sub-commands; some have two words."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments begin with: one of two words, such as `eval compare`, where there is one."""
        two_words = " ".join(args[:2])
        return super().resolve_command(ctx, [two_words, *args[2:]] if two_words in self.commands else args)


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
SERVE_EXAMPLES = """\b
Examples:
  gemcut serve starter
  gemcut serve ./gemma-3-1b-it --port 8080 --context 8192
  gemcut serve ./gemma-3-1b-it --host 0.0.0.0 --api-key "$KEY"
  gemcut serve gemma-2b-it --adapter poems=./poems-lora"""
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

PLAN_EXAMPLES = """\b
Examples:
  gemcut plan starter
  gemcut plan gemma-2-9b-it --on nvidia-l4 --type Q4_0 --context 4096
  gemcut plan gemma-2b --on tpu-v5e --tune lora --batch 4"""
CALIBRATE_EXAMPLES = """\b
Examples:
  gemcut calibrate gemma-2b-it book.txt -o importance.gguf
  gemcut calibrate ./my-model notes.txt -o importance.gguf --tokens 100000"""
CONVERT_EXAMPLES = """\b
Examples:
  gemcut convert starter ./starter-hf --to hf
  gemcut convert gemma-2b-it ./gemma-2b-it-Q4_K_M.gguf --to gguf --type Q4_K_M
  gemcut convert ./my-gemma ./small.gguf --to gguf --target-size 1.5GB --importance importance.gguf
  gemcut convert ./my-gemma ./for-ollama --for ollama --type Q8_0
  gemcut convert ./my-gemma ./my-gemma-bf16 --to hf --type BF16 --shard-size 5GB --dry-run"""
VERIFY_EXAMPLES = """\b
Examples:
  gemcut verify starter ./starter-hf
  gemcut verify gemma-2b-it ./gemma-2b-it-Q4_K_M.gguf --text passages.txt --tokens 2000
  gemcut verify starter starter --engine native --engine-b jax --dtype-b float32
  gemcut verify ./a ./b --tensors-only --json"""

PULL_EXAMPLES = """\b
Examples:
  gemcut pull gemma-3-270m-it
  gemcut pull hf:ORG/REPO/model-Q4_K_M.gguf
  gemcut pull hf:ORG/REPO@v1.0 --include "*.safetensors" --include "*.json"
  gemcut pull kaggle:google/gemma-3/transformers/gemma-3-270m"""
MODELS_EXAMPLES = """\b
Examples:
  gemcut models
  gemcut models --json"""
RM_EXAMPLES = """\b
Examples:
  gemcut rm gemma-2b-it
  gemcut rm hf:ORG/REPO/model-Q4_K_M.gguf --yes"""
CHECK_LICENCE_EXAMPLES = """\b
Examples:
  gemcut check-licence ./my-gemma
  gemcut check-licence ./my-gemma-Q4_K_M.gguf --json"""

app.command("run", epilog=RUN_EXAMPLES, context_settings=_CONTEXT)(run)
app.command("chat", epilog=CHAT_EXAMPLES, context_settings=_CONTEXT)(chat)
app.command("serve", epilog=SERVE_EXAMPLES, context_settings=_CONTEXT)(serve)
app.command("pull", epilog=PULL_EXAMPLES, context_settings=_CONTEXT)(pull)
app.command("models", epilog=MODELS_EXAMPLES, context_settings=_CONTEXT)(models)
app.command("rm", epilog=RM_EXAMPLES, context_settings=_CONTEXT)(rm)
app.command("show", epilog=SHOW_EXAMPLES, context_settings=_CONTEXT)(show)
app.command("calibrate", epilog=CALIBRATE_EXAMPLES, context_settings=_CONTEXT)(calibrate)
app.command("convert", epilog=CONVERT_EXAMPLES, context_settings=_CONTEXT)(convert)
app.command("verify", epilog=VERIFY_EXAMPLES, context_settings=_CONTEXT)(verify)
app.command("plan", epilog=PLAN_EXAMPLES, context_settings=_CONTEXT)(plan)
app.command("eval", epilog=eval_command.EXAMPLES, context_settings=_CONTEXT)(eval_command.eval_model)
app.command("eval tasks", epilog=eval_tasks.EXAMPLES, context_settings=_CONTEXT)(eval_tasks.tasks)
app.command("eval fetch", epilog=eval_fetch.EXAMPLES, context_settings=_CONTEXT)(eval_fetch.fetch)
app.command("eval report", epilog=eval_report.EXAMPLES, context_settings=_CONTEXT)(eval_report.report)
app.command("eval compare", epilog=eval_compare.EXAMPLES, context_settings=_CONTEXT)(eval_compare.compare)
app.command("eval claims", epilog=eval_claims.EXAMPLES, context_settings=_CONTEXT)(eval_claims.claims)
app.command("tune", epilog=TUNE_EXAMPLES, context_settings=_CONTEXT)(tune)
app.command("check-licence", epilog=CHECK_LICENCE_EXAMPLES, context_settings=_CONTEXT)(check_licence)
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
