"""`gemcut check-licence`: whether a model may be passed on as it lies there."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gemcut.cli import options
from gemcut.cli.output import print_fields, print_json

ModelArgument = Annotated[str, typer.Argument(metavar="DIR|FILE", help="The model's folder or file, or a reference.")]


def check_licence(model: ModelArgument, *, json: options.JsonOption = False) -> None:
    """Check that everything a model's licence asks for lies beside it.

    The licence is that of the model it was made from, by what the files say: model card, GGUF keys, licence texts,
    place in a hub's cache. It is never guessed. Ends with 1 when something is missing.
    """
    from gemcut.inspect import check_licence as check

    report = check(model)
    if json:
        print_json(report)
    else:
        print_fields(_for_people(report))
    if not report["complete"]:
        raise typer.Exit(1)


def _for_people(report: dict[str, Any]) -> dict[str, Any]:
    licence = report["licence"]
    fields = {"model": report["path"], "base": report["base"] or "not known"}
    fields["licence"] = licence_name(licence) if licence else "not known"
    if licence and licence["allowed"]:
        fields |= {"kind": licence["openness"], "allowed": licence["allowed"]}
    for duty in report["duties"]:
        fields[f"{'ok     ' if duty['met'] else 'MISSING'} {duty['name']}"] = duty["detail"]
    return fields


def licence_name(licence: dict[str, Any]) -> str:
    """Name and address."""
    return ", ".join(filter(None, (licence["name"], licence["url"])))
