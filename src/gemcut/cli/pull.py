"""`gemcut pull`: get a model from its hub."""

from __future__ import annotations

from typing import Annotated

import typer

from gemcut.cli import options
from gemcut.cli.output import print_json, print_notice, write_answer

ReferenceArgument = Annotated[str, typer.Argument(metavar="REF", help="The model; `gemcut --help` lists the forms.")]
RevisionOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Branch, tag or commit; of Kaggle a version number.")
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN", help="Get the files that match, instead of what a model needs; may be given again."
    ),
]


def pull(
    reference: ReferenceArgument,
    *,
    revision: RevisionOption = None,
    include: IncludeOption = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Download a model into its hub's own cache and print where it is.

    Weights in one format with their configuration, tokenizer, templates and licence; of a repository with several GGUF
    files the one that REF names. An interrupted download goes on where it ended. Tokens are read from where the hubs'
    clients keep them: HF_TOKEN or `hf auth login`; for Kaggle KAGGLE_API_TOKEN; for gs:// Google's default credentials.
    """
    from gemcut.cli.download import download

    try:
        path = download(reference, revision=revision, files=include, quiet=quiet)
    except KeyboardInterrupt:
        print_notice(f"\nInterrupted. What came is kept; go on with: gemcut pull {reference}")
        raise typer.Exit(75) from None
    if json:
        print_json({"reference": reference, "path": str(path)})
    else:
        write_answer(f"{path}\n")
