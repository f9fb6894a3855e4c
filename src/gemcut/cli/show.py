"""`gemcut show`: what a model is."""

from __future__ import annotations

from typing import Any

from gemcut.cli import options
from gemcut.cli.output import print_fields, print_json


def show(
    model: options.ModelArgument, *, context: options.ContextOption = None, json: options.JsonOption = False
) -> None:
    """Show a model's architecture, parameters, file types, memory need, tokenizer and licence.

    A published name works without its files: what they would be follows from the table of published models.
    --context adds the memory of a cache of that many tokens.
    """
    from gemcut.inspect import show as show_model

    facts = show_model(model, context=context)
    if json:
        print_json(facts)
    else:
        print_fields(_for_people(facts))


def _for_people(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts in words and units."""
    memory = facts["memory"]
    fields: dict[str, Any] = {"model": facts["reference"]}
    if facts["path"]:
        fields |= {"file": facts["path"], "format": facts["format"]}
    else:
        fields["file"] = "not on this machine; from the table of published models"
    if facts["published"]:
        fields["same decoder as"] = ", ".join(facts["published"])
    fields["parameters"] = f"{facts['parameters']['total']:,} ({facts['parameters']['embedding']:,} in the embedding)"
    fields["architecture"] = {name: _in_words(value) for name, value in facts["architecture"].items()}
    if facts["types"]:
        fields["tensors by type"] = {
            row["type"]: f"{row['tensors']:>5} tensors  {_bytes(row['bytes']):>10}  {row['share']:6.1%}"
            for row in facts["types"]
        }
    fields["memory of the weights"] = {name: _bytes(count) for name, count in memory["weights_bytes"].items()}
    fields["memory of one sequence's cache"] = {
        f"{row['context']:,} tokens": "  ".join(f"{name} {_bytes(count)}" for name, count in row["bytes"].items())
        for row in memory["cache"]
    }
    if facts["tokenizer"]:
        fields["tokenizer"] = {name: _in_words(value) for name, value in facts["tokenizer"].items()}
    licence = facts["licence"]
    fields["licence"] = ", ".join(filter(None, (licence["name"], licence["url"]))) if licence else "not known"
    if facts["hub"]:
        fields["hubs"] = facts["hub"]
    for title, lines in (("notes", facts["notes"]), ("tensors not used", facts["unused"])):
        if lines:
            fields[title] = {line["name"]: line["reason"] for line in lines} if title != "notes" else "; ".join(lines)
    return fields


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else str(value)
    if isinstance(value, list):
        return ", ".join(_in_words(item) for item in value)
    return "none" if value is None else str(value)


def _bytes(count: int) -> str:
    """A size in binary units."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.2f} GiB"
