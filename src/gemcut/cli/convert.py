"""`gemcut convert`: a model in another format, type or split, or for a certain program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from gemcut.cli import options
from gemcut.cli.output import print_fields, print_json, size_in_words
from gemcut.cli.progress import progress_bar
from gemcut.errors import UsageError

SourceArgument = Annotated[str, typer.Argument(metavar="SRC", help="The model; `gemcut --help` lists the forms.")]
TargetArgument = Annotated[Path, typer.Argument(metavar="DST", help="The folder or GGUF file to make.")]
ToOption = Annotated[str | None, typer.Option(metavar="FORMAT", help="hf or gguf.")]
ForOption = Annotated[
    str | None,
    typer.Option("--for", metavar="PROGRAM", help="transformers, vllm, llama.cpp, ollama, nemo or tensorrt-llm."),
]
TypeOption = Annotated[
    str | None,
    typer.Option(metavar="T", help="F32, F16 or BF16; for gguf also Q8_0, Q4_K_M, ... [default: as it is stored]."),
]
TargetSizeOption = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Instead of --type, for gguf: the best types that fit in this, such as 200MB."),
]
ShardOption = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Split safetensors into files of at most this, such as 5GB.")
]
ImportanceOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Weigh errors by this file of `gemcut calibrate` or llama-imatrix.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Write nothing; say what would be.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is at DST.")]

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_LISTED = 10


def convert(
    source: SourceArgument,
    target: TargetArgument,
    *,
    to: ToOption = None,
    for_program: ForOption = None,
    type: TypeOption = None,
    target_size: TargetSizeOption = None,
    importance: ImportanceOption = None,
    adapter: options.AdapterOption = None,
    shard_size: ShardOption = None,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Write a model in another format or type, whole or not at all.

    --to hf makes a folder that transformers, vLLM and others open: safetensors, configuration, tokenizer, model card.
    --to gguf makes one file for llama.cpp and its kin. --for PROGRAM chooses the format and adds what that program
    wants besides. What the licence asks for goes along; an adapter is merged in float32. Numbers stay exact where the
    type holds them; the report says how many overflowed or vanished where it does not. `gemcut verify SRC DST` proves
    the result.
    """
    from gemcut.checkpoint import convert as write

    shard_bytes, target_bytes = parse_size(shard_size, "--shard-size"), parse_size(target_size, "--target-size")
    with progress_bar(quiet) as progress:
        report = write(
            source,
            target,
            to,
            type=type,
            target_bytes=target_bytes,
            shard_bytes=shard_bytes,
            for_consumer=for_program,
            importance=importance,
            adapter=adapter,
            dry_run=dry_run,
            overwrite=overwrite,
            progress=progress,
        ).as_json()
    if json:
        print_json(report)
    elif not quiet:
        print_fields(_for_people(report))


def parse_size(text: str | None, flag: str) -> int | None:
    """Bytes of a size such as 5GB, 500MB or 2GiB; None of None.

    Raises:
        UsageError: it is none.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip(), re.IGNORECASE)
    if match is None or match[2].upper() not in _UNITS or not float(match[1]):
        raise UsageError(f"{flag} is {text!r}, expected a size such as 5GB, 500MB or 2GiB.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _for_people(report: dict[str, Any]) -> dict[str, Any]:
    """The report in words and units."""
    fields: dict[str, Any] = {
        "target": f"{report['target']}" + (" (nothing written: --dry-run)" if report["dry_run"] else ""),
        "format": f"{report['source_format']} to {report['format']}"
        + (f", for {report['for']}" if report["for"] else ""),
        "tensors": f"{report['tensors_in']} in, {report['tensors_out']} out, {len(report['unused'])} unused",
        "size": size_in_words(report["bytes"]),
        "time": f"{report['seconds']:.1f} s",
        "licence": report["licence"] or "not known",
        "types": {
            f"{row['from']} to {row['to']}": f"{row['tensors']:>5} tensors  {size_in_words(row['bytes']):>10}"
            for row in report["types"]
        },
    }
    if report["overflowed"] or report["vanished"]:
        fields["rounding"] = (
            f"{report['overflowed']:,} numbers overflowed and became the type's largest, "
            f"{report['vanished']:,} vanished and became 0"
        )
    fields["files"] = {file["name"]: _file(file) for file in report["files"]}
    for title in ("unused", "made"):
        if rows := report[title]:
            shown = {row["name"]: row["reason"] for row in rows[:_LISTED]}
            fields[title] = shown | ({"...": f"{len(rows) - _LISTED} more"} if len(rows) > _LISTED else {})
    if report["notes"]:
        fields["notes"] = {str(number): note for number, note in enumerate(report["notes"], 1)}
    return fields


def _file(file: dict[str, Any]) -> str:
    digest = f"  sha256 {file['sha256']}" if file["sha256"] else ""
    return f"{size_in_words(file['bytes']):>10}{digest}"
