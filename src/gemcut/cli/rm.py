"""`gemcut rm`: remove a model from its cache."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gemcut.cli.output import print_notice, size_in_words
from gemcut.errors import UsageError

ReferenceArgument = Annotated[str, typer.Argument(metavar="REF", help="The model, as `gemcut models` lists it.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def rm(reference: ReferenceArgument, *, yes: YesOption = False) -> None:
    """Remove a model from its cache, after asking.

    Without a revision all revisions of it go; what other models share stays. Files outside the caches are never
    touched.
    """
    from gemcut.hub import plan_removal

    removal = plan_removal(reference)
    print_notice("\n".join(map(str, removal.paths)))
    if not yes and not _is_confirmed(f"Remove these and free {size_in_words(removal.num_bytes)}? [y/N] "):
        print_notice("Nothing was removed.")
        raise typer.Exit(1)
    removal.execute()
    print_notice(f"{reference}: removed, {size_in_words(removal.num_bytes)} are free.")


def _is_confirmed(question: str) -> bool:
    """Whether the user answers the question with yes.

    Raises:
        UsageError: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise UsageError("gemcut rm asks before it removes, and standard input is no terminal. Add --yes.")
    print(question, end="", file=sys.stderr, flush=True)  # noqa: T201
    return sys.stdin.readline().strip().lower() in ("y", "yes")
