"""`gemcut verify`: whether two models are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gemcut.cli import options
from gemcut.cli.output import print_fields, print_json
from gemcut.cli.progress import progress_bar

FirstArgument = Annotated[str, typer.Argument(metavar="A", help="The model to compare with.")]
SecondArgument = Annotated[str, typer.Argument(metavar="B", help="The model that should be the same.")]
SecondEngineOption = Annotated[
    options.Engine | None, typer.Option(help="What computes B [default: what --engine says].", show_default=False)
]
SecondDtypeOption = Annotated[
    options.Dtype | None, typer.Option(help="Number format for B [default: what --dtype says].", show_default=False)
]
FirstAdapterOption = Annotated[
    Path | None, typer.Option("--adapter", metavar="PATH", help="LoRA adapter of A: a folder as PEFT saves it.")
]
SecondAdapterOption = Annotated[Path | None, typer.Option("--adapter-b", metavar="PATH", help="LoRA adapter of B.")]
TextOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Compute logits on this UTF-8 text [default: Gemcut's own].")
]
TokensOption = Annotated[int | None, typer.Option(min=2, metavar="N", help="Tokens of the text to use [default: 640].")]
TensorsOnlyOption = Annotated[bool, typer.Option("--tensors-only", help="Compute no logits.")]
AllOption = Annotated[bool, typer.Option("--all", help="List every tensor, not only the ten that differ most.")]

_LISTED, _NAMED = 10, 3
_VERDICTS = {"same": "the same", "within": "within their types' precision", "different": "DIFFERENT"}


def verify(
    a: FirstArgument,
    b: SecondArgument,
    *,
    engine: options.EngineOption = options.Engine.auto,
    engine_b: SecondEngineOption = None,
    dtype: options.DtypeOption = options.Dtype.auto,
    dtype_b: SecondDtypeOption = None,
    threads: options.ThreadsOption = None,
    adapter: FirstAdapterOption = None,
    adapter_b: SecondAdapterOption = None,
    text: TextOption = None,
    tokens: TokensOption = None,
    tensors_only: TensorsOnlyOption = False,
    all: AllOption = False,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Compare two models of any formats, quantisations and engines.

    Every tensor with its error; configuration and tokenizer; then the next-token distributions of both on a fixed text:
    logits, KL divergence, how often they choose the same token, perplexity. The verdict is "same", "same within TYPE's
    precision" or "different", by limits that follow from the stored types and from what the engines round. The exit
    code is 0 for the first two, 1 for the last.
    """
    from gemcut.inspect import verify as compare

    with progress_bar(quiet) as progress:
        report = compare(
            a,
            b,
            engine=engine.value,
            engine_b=engine_b.value if engine_b else None,
            dtype=dtype.value,
            dtype_b=dtype_b.value if dtype_b else None,
            threads=threads,
            adapter=adapter,
            adapter_b=adapter_b,
            text=text,
            num_tokens=tokens,
            tensors_only=tensors_only,
            progress=progress,
        )
    if json:
        print_json(report)
    else:
        print_fields(_for_people(report, len(report["tensors"]["compared"]) if all else _LISTED))
    if not report["is_same"]:
        raise typer.Exit(1)


def _for_people(report: dict[str, Any], num_listed: int) -> dict[str, Any]:
    """The report in words and units."""
    fields: dict[str, Any] = {"verdict": report["verdict"]}
    if report["reasons"]:
        fields["because"] = "; ".join(report["reasons"])
    fields |= {side.upper(): _model(report[side]) for side in "ab"}
    fields["tokenizer"] = _tokenizer(report["tokenizer"])
    fields["config"] = {
        row["field"]: f"{row['a']} in A, {row['b']} in B" + ("" if row["matters"] else "; no arithmetic depends on it")
        for row in report["config"]
    } or "the same"
    return fields | {
        "tensors": _tensors(report["tensors"]),
        "largest errors": _largest_errors(report["tensors"]["compared"], num_listed),
        "logits": _logits(report["logits"]) if report["logits"] else "not computed",
    }


def _model(side: dict[str, Any]) -> str:
    computed = f", {side['engine']} in {side['dtype']}" if "engine" in side else ""
    adapted = f" with the adapter {side['adapter']}" if side["adapter"] else ""
    return f"{side['reference']}{adapted} ({side['format']}{computed})"


def _tokenizer(facts: dict[str, Any]) -> str:
    if facts["same"] is None:
        missing = " and ".join(side.upper() for side in "ab" if not facts[f"in_{side}"])
        return f"not compared: {missing} without one"
    if facts["same"]:
        return "the same ids on every line of the text"
    found = facts["first_difference"]
    return f"other ids, first in {found['text'][:60]!r}: {found['a'][:8]} in A, {found['b'][:8]} in B"


def _tensors(facts: dict[str, Any]) -> dict[str, Any]:
    """A line for each pair of stored types; then what cannot be compared."""
    pairs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in facts["compared"]:
        pairs.setdefault((row["type_a"], row["type_b"]), []).append(row)
    lines: dict[str, Any] = {}
    for (type_a, type_b), rows in pairs.items():
        counts = [
            (verdict, sum(row["verdict"] == verdict for row in rows)) for verdict in ("same", "within", "different")
        ]
        states = ", ".join(f"{count} {_VERDICTS[verdict]}" for verdict, count in counts if count)
        lines[f"{type_a} and {type_b}"] = states
    for side in "ab":
        if names := facts[f"only_in_{side}"]:
            lines[f"only in {side.upper()}"] = _listed(names)
    if facts["shapes"]:
        lines["other shapes"] = _listed([f"{row['name']} {row['a']} in A, {row['b']} in B" for row in facts["shapes"]])
    return lines | ({"notes": "; ".join(facts["notes"])} if facts["notes"] else {})


def _listed(items: list[str]) -> str:
    more = len(items) - _NAMED
    return ", ".join(items[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _largest_errors(rows: list[dict[str, Any]], num_listed: int) -> dict[str, str] | str:
    changed = sorted((row for row in rows if row["max_error"]), key=lambda row: -row["relative_rms_error"])
    if not changed:
        return "none: every value is equal"
    table = {"": f"{'types':>14}  {'largest':>9}  {'relative RMS':>12}  {'changed':>8}"}
    for row in changed[:num_listed]:
        types = f"{row['type_a']}, {row['type_b']}"
        table[row["name"]] = (
            f"{types:>14}  {row['max_error']:>9.3g}  {row['relative_rms_error']:>12.3g}  {row['changed_share']:>8.2%}"
        )
    return table


def _logits(facts: dict[str, Any]) -> dict[str, str]:
    if not facts["is_finite"]:
        return {"positions": f"{facts['positions']:,}", "error": "some logits are NaN or infinite"}
    return {
        "positions": f"{facts['positions']:,}",
        "error": f"{facts['mean_error']:.3g} on average, {facts['max_error']:.3g} at most",
        "KL(A || B)": f"{facts['mean_kl']:.3g} on average (rounding explains {facts['mean_kl_limit']:.3g}), "
        f"{facts['max_kl']:.3g} at most",
        "same top token": f"{facts['same_top_rate']:.2%}",
        "perplexity": f"{facts['perplexity_a']:.4f} of A, {facts['perplexity_b']:.4f} of B: "
        f"{facts['perplexity_change']:+.3%} (rounding explains {facts['perplexity_change_limit']:.3%})",
    }
