"""Writing a model in another format, type or split, tensor by tensor."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gemcut.checkpoint.adapter import merged, read_adapter
from gemcut.checkpoint.checkpoint import Checkpoint, open_checkpoint
from gemcut.checkpoint.consumers import Consumer, consumer_named
from gemcut.checkpoint.conversion_plan import Request, plan_conversion
from gemcut.checkpoint.conversion_report import ConversionReport
from gemcut.checkpoint.importance import read_importance
from gemcut.checkpoint.staging import check_target, staged
from gemcut.checkpoint.target_size import types_for_size
from gemcut.checkpoint.tensor_stream import FilePlan, Progress
from gemcut.errors import UsageError
from gemcut.hub import adapter_of, resolve

FORMATS = ("hf", "gguf")


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    to: str | None = None,
    *,
    type: str | Mapping[str, str] | None = None,
    target_bytes: int | None = None,
    shard_bytes: int | None = None,
    for_consumer: str | None = None,
    importance: Mapping[str, np.ndarray] | str | os.PathLike[str] | None = None,
    adapter: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ConversionReport:
    """Write the model `source` as `target`, whole or not at all.

    Numbers are exact wherever the target's type holds them; where it does not, the report counts what was lost.

    Args:
        source: Any model reference.
        target: The folder ("hf") or file ("gguf") to make, in a folder that exists.
        to: "hf" (safetensors, with everything that transformers and vLLM look for) or "gguf"; None where
            `for_consumer` implies it.
        type: "F32", "F16" or "BF16"; for GGUF also "Q8_0", "Q4_K_M" and the like; or types by our tensor names. None,
            or a name left out, keeps a tensor's type, or its numbers exactly where the format lacks the type.
        target_bytes: Instead of a type, for GGUF: most bytes of all files together. Each matrix gets the type in which
            the model loses least, measured on some of its rows.
        shard_bytes: Most bytes of one safetensors file; None for one file.
        for_consumer: One of consumers.CONSUMERS: also write what that program needs besides.
        importance: An importance file, or float32 (columns,) by our tensor names: how much each column's error counts
            in block types. None weighs all alike.
        adapter: Folder of a PEFT adapter that is merged into the weights, in float32; None for the source's own, or
            none.
        dry_run: Write nothing; the report says what would be.
        overwrite: Replace a file, or a folder that holds a model.
        progress: Called with a tensor's name, the bytes written so far, and those of the whole.

    Raises:
        UsageError: format, type, size, consumer or target make no sense.
        NotFoundError: the source, or the target's folder, is missing.
        CheckpointError, ConfigError, TokenizerError: the source is damaged, or the format cannot hold it.
        GemcutError: the disk is full or not writable; nothing is left behind.
    """
    begin = time.perf_counter()
    consumer = None if for_consumer is None else consumer_named(for_consumer)
    to = _format(to, consumer, shard_bytes)
    _check_size(target_bytes, to, type)
    path, target = resolve(source), Path(target)
    adapter = adapter if adapter is not None else adapter_of(source)
    is_folder = to == "hf" or (consumer is not None and consumer.is_folder)
    _check_apart(path, target)
    check_target(target, is_folder=is_folder, overwrite=overwrite)
    with open_checkpoint(path) as opened:
        folder = None if adapter is None else Path(adapter)
        checkpoint = opened if folder is None else merged(opened, read_adapter(folder, opened))
        if isinstance(importance, str | os.PathLike):
            importance = read_importance(Path(importance), opened.config)
        request = Request(target, to, type, shard_bytes, consumer, importance or {}, folder)
        if target_bytes is not None:
            request = dataclasses.replace(request, type=types_for_size(checkpoint, request, target_bytes, progress))
        plans, report = plan_conversion(checkpoint, request)
        if target_bytes is not None:
            report.notes.append(
                f"Each matrix has the type in which the model loses least within {target_bytes:,} bytes."
            )
        report.dry_run = dry_run
        if not dry_run:
            with staged(target, is_folder=is_folder, overwrite=overwrite, num_bytes=report.num_bytes) as temporary:
                _write(plans, temporary, report, progress)
    report.seconds = time.perf_counter() - begin
    return report


def write_changed(checkpoint: Checkpoint, target: Path, changes: Sequence[str], *, overwrite: bool = False) -> None:
    """Write a checkpoint whose tensors were changed in memory as a Hugging Face folder, each tensor in its own type.

    Args:
        checkpoint: The source's files with other tensors.
        target: The folder to make, in a folder that exists.
        changes: What was done to the weights, in lines for the record that licences ask for.
        overwrite: Replace a folder that holds a model.

    Raises:
        UsageError: something else is at `target`.
        GemcutError: the disk is full or not writable; nothing is left behind.
    """
    check_target(target, is_folder=True, overwrite=overwrite)
    plans, report = plan_conversion(checkpoint, Request(target, "hf", changes=tuple(changes)))
    with staged(target, is_folder=True, overwrite=overwrite, num_bytes=report.num_bytes) as temporary:
        _write(plans, temporary, report, None)


def _format(to: str | None, consumer: Consumer | None, shard_bytes: int | None) -> str:
    """The format that is meant.

    Raises:
        UsageError: none, an unknown one, or one that does not go with the rest.
    """
    to = to or (consumer.to if consumer else None)
    if to not in FORMATS:
        raise UsageError(f"to is {to!r}, expected one of {', '.join(FORMATS)}. Name the format, or whom it is for.")
    if consumer and to != consumer.to:
        raise UsageError(f"to is {to!r}, but {consumer.name} takes {consumer.to!r}. Leave one of the two out.")
    if shard_bytes is not None and (to != "hf" or shard_bytes < 1):
        raise UsageError(f"shard_bytes is {shard_bytes} with {to}, expected at least 1, for hf only: GGUF is one file.")
    return to


def _check_size(target_bytes: int | None, to: str, type: str | Mapping[str, str] | None) -> None:
    """Refuse a size where it has no meaning."""
    if target_bytes is not None and (to != "gguf" or type is not None):
        raise UsageError(
            f"target_bytes is {target_bytes} with {f'type {type}' if type else to}, expected it for gguf and without a "
            "type, for which it stands. Leave one of the two out."
        )


def _check_apart(source: Path, target: Path) -> None:
    """Refuse a target that is the source, holds it or lies in it."""
    one, other = source.resolve(), target.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise UsageError(f"{target}: overlaps with the source {source}. Choose a place outside it.")


def _write(
    plans: Sequence[FilePlan],
    temporary: Path,
    report: ConversionReport,
    progress: Progress | None,
) -> None:
    """Write every file, and put digests and losses into the report."""
    total, done = report.num_bytes, 0

    def advance(name: str, num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        if progress:
            progress(name, done, total)

    rows = {row.name: row for row in report.tensors}
    report.files = []
    for plan in plans:
        digest, losses = plan.write(temporary / plan.name, advance)
        report.files.append((plan.name, plan.num_bytes, digest))
        for tensor, (overflowed, vanished) in zip(plan.tensors, losses, strict=True):
            rows[tensor.name].overflowed, rows[tensor.name].vanished = overflowed, vanished
