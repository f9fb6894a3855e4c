"""`gemcut show`: what a model is."""

from __future__ import annotations

from typing import Any

from gemcut.cli import options
from gemcut.cli.check_licence import licence_name
from gemcut.cli.output import print_fields, print_json, size_in_words


def show(
    model: options.ModelArgument, *, context: options.ContextOption = None, json: options.JsonOption = False
) -> None:
    """Show what a model is and how much memory it needs.

    Architecture, parameters, types of the stored tensors, memory of weights and cache, tokenizer, licence. A published
    name works without its files: what they would be follows from the table of published models. --context adds the
    memory of a cache of that many tokens.
    """
    from gemcut.inspect import show as show_model

    facts = show_model(model, context=context)
    if json:
        print_json(facts)
    else:
        print_fields(_for_people(facts))


def _for_people(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts in words and units."""
    fields: dict[str, Any] = {"model": facts["reference"]}
    if facts["path"]:
        fields |= {"file": facts["path"], "format": facts["format"]}
    else:
        fields["file"] = "not on this machine; from the table of published models"
    if facts["published"] not in ([], [facts["reference"]]):
        fields["same decoder as"] = ", ".join(facts["published"])
    fields["parameters"] = f"{facts['parameters']['total']:,} ({facts['parameters']['embedding']:,} in the embedding)"
    fields["architecture"] = {name: _in_words(value) for name, value in facts["architecture"].items()}
    if facts["types"]:
        fields["tensors by type"] = {
            row["type"]: f"{row['tensors']:>5} tensors  {size_in_words(row['bytes']):>10}  {row['share']:6.1%}"
            for row in facts["types"]
        }
    fields["memory"] = _memory_table(facts["memory"])
    if facts["tokenizer"]:
        fields["tokenizer"] = {name: _in_words(value) for name, value in facts["tokenizer"].items()}
    fields["licence"] = _licence_line(facts["licence"])
    if facts["hub"]:
        fields["hubs"] = facts["hub"]
    for title, lines in (("notes", facts["notes"]), ("tensors not used", facts["unused"])):
        if lines:
            fields[title] = {line["name"]: line["reason"] for line in lines} if title != "notes" else "; ".join(lines)
    return fields


def _licence_line(licence: dict[str, Any] | None) -> str:
    """Name, address, openness and what is allowed, in one line."""
    if licence is None:
        return "not known"
    name = licence_name(licence)
    return f"{name} ({licence['openness']}: {licence['allowed']})" if licence["openness"] else name


def _memory_table(memory: dict[str, Any]) -> dict[str, str]:
    """A row for the weights and one for each size of cache, a column for each dtype."""
    dtypes = list(memory["weights_bytes"])
    rows = {"": dtypes, "weights": [size_in_words(memory["weights_bytes"][dtype]) for dtype in dtypes]}
    for row in memory["cache"]:
        sizes = [size_in_words(row["bytes"][dtype]) for dtype in dtypes]
        rows[f"cache of {row['context']:,} tokens"] = sizes
    return {name: "  ".join(f"{cell:>9}" for cell in cells) for name, cells in rows.items()}


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
