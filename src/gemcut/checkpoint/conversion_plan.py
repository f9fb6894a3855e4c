"""What a conversion writes: every tensor in its new form, the files around them, and what the licence asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gemcut.checkpoint.adapter import adapter_template
from gemcut.checkpoint.checkpoint import Checkpoint
from gemcut.checkpoint.consumers import GGUF_FILE, Consumer
from gemcut.checkpoint.conversion_report import MIXED, ConversionReport, TensorRow
from gemcut.checkpoint.gguf_metadata import NO_VOCABULARY, gguf_metadata
from gemcut.checkpoint.gguf_writer import ALIGNMENT, gguf_header
from gemcut.checkpoint.hf_files import CONFIG_FILE, hf_files
from gemcut.checkpoint.names import target_placements
from gemcut.checkpoint.recoding import Recoding
from gemcut.checkpoint.safetensors_writer import index_json, safetensors_header, shards
from gemcut.checkpoint.target_types import target_types
from gemcut.checkpoint.tensor_stream import FilePlan
from gemcut.errors import NotFoundError, UsageError
from gemcut.hub import LicenceFinding, duties_metadata, duty_files, licence_of
from gemcut.hub.licences import terms_of
from gemcut.text import Tokenizer, check_tokenizer_matches, load_tokenizer, tokenizer_from_keys

_NO_WINDOW = (
    "llama.cpp knows no sliding window for Mistral: beyond {window} tokens it sees more than the model was trained to."
)


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be made; the attributes are `convert`'s arguments.

    Attributes:
        target: Folder or file.
        to: "hf" or "gguf".
        type: A type or mix, types by our names, or None.
        shard_bytes: Most bytes of one safetensors file, or None.
        consumer: Whom it is for, or None.
        importance: float32 (columns,) by our names.
        adapter: What was merged into the checkpoint's weights, or None.
        changes: What else was done to the weights before, in lines for the record that licences ask for.
    """

    target: Path
    to: str
    type: str | Mapping[str, str] | None = None
    shard_bytes: int | None = None
    consumer: Consumer | None = None
    importance: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    adapter: Path | None = None
    changes: tuple[str, ...] = ()

    @property
    def is_folder(self) -> bool:
        """Whether the target is a folder."""
        return self.to == "hf" or (self.consumer is not None and self.consumer.is_folder)


def plan_conversion(checkpoint: Checkpoint, request: Request) -> tuple[list[FilePlan], ConversionReport]:
    """Every file that is to be written, weights first and config.json last, and the report on it.

    Raises:
        UsageError: a type or an importance does not go with the model.
        ConfigError, TokenizerError: the format cannot hold the model, or its tokenizer is damaged.
    """
    kind = request.type.upper() if isinstance(request.type, str) else request.type
    types, notes = target_types(checkpoint.config, checkpoint.tensors, request.to, kind)
    tensors = _recodings(checkpoint, request, types)
    report = ConversionReport(
        source=checkpoint.path,
        target=request.target,
        source_format=checkpoint.format,
        format=request.to,
        type=MIXED if isinstance(kind, Mapping) else kind,
        consumer=request.consumer.name if request.consumer else None,
        dry_run=False,
        tensors=[_row(tensor) for tensor in tensors],
        unused=list(checkpoint.unused),
        notes=notes,
    )
    finding = licence_of(checkpoint.path, checkpoint.gguf_metadata)
    report.licence, report.base = finding.licence.name if finding.licence else None, finding.base
    template = adapter_template(request.adapter) if request.adapter else None
    tokenizer = _tokenizer(checkpoint, report)
    if tokenizer is not None and template is not None:
        tokenizer.chat_template = template
        report.notes.append("The chat template is the adapter's.")
    work = _Work(
        checkpoint,
        request,
        report,
        tensors=tensors,
        types=types,
        tokenizer=tokenizer,
        template=template,
        duties=_Duties(finding, _modifications(report, request), checkpoint),
    )
    plans = _gguf_plans(work) if request.to == "gguf" else _hf_plans(work)
    texts = _consumer_files(work) | work.duties.files("" if request.is_folder else request.target.name)
    plans += [FilePlan(file, content) for file, content in texts.items()]
    # A folder without its config.json does not load, so a killed conversion's does not.
    plans.sort(key=lambda plan: plan.name == CONFIG_FILE)
    report.files = [(plan.name, plan.num_bytes, None) for plan in plans]
    return plans, report


@dataclasses.dataclass(frozen=True)
class _Work:
    """All that is known once the types are chosen."""

    checkpoint: Checkpoint
    request: Request
    report: ConversionReport
    tensors: list[Recoding]
    types: Mapping[str, str]
    tokenizer: Tokenizer | None
    template: str | None
    duties: _Duties


def _gguf_plans(work: _Work) -> list[FilePlan]:
    """The one GGUF file."""
    config, report = work.checkpoint.config, work.report
    general = {"general.name": _name(work.checkpoint, report.base)} | work.duties.metadata()
    metadata = gguf_metadata(work.checkpoint, work.tokenizer, work.types, kind=report.type, general=general)
    if work.template is not None:
        metadata |= {"tokenizer.chat_template": work.template}
    if config.model_type == "mistral" and config.sliding_window:
        report.notes.append(_NO_WINDOW.format(window=config.sliding_window))
    name = GGUF_FILE if work.request.is_folder else work.request.target.name
    return [FilePlan(name, gguf_header(metadata, work.tensors), work.tensors, ALIGNMENT)]


def _hf_plans(work: _Work) -> list[FilePlan]:
    """The safetensors files, their index, and the files that describe them."""
    files = shards(work.tensors, work.request.shard_bytes)
    plans = [FilePlan(file, safetensors_header(part), part) for file, part in files.items()]
    if len(files) > 1:
        plans.append(FilePlan("model.safetensors.index.json", index_json(files)))
    texts = hf_files(
        work.checkpoint,
        work.tokenizer,
        work.types,
        name=_name(work.checkpoint, work.report.base),
        card=work.duties.card(),
        report=work.report,
        template=work.template,
    )
    return plans + [FilePlan(file, content) for file, content in texts.items()]


def _consumer_files(work: _Work) -> dict[str, bytes]:
    """Name and content of what the consumer wants besides; the report says how to use it."""
    consumer = work.request.consumer
    if consumer is None:
        return {}
    texts = consumer.side_files(work.checkpoint, work.tokenizer)
    work.report.made += [(file, f"for {consumer.name}") for file in texts]
    work.report.notes.append(consumer.advice.format(target=work.request.target))
    return {file: text.encode("utf-8") for file, text in texts.items()}


def _modifications(report: ConversionReport, request: Request) -> list[str]:
    """What was done to the model, in lines."""
    adapter = request.adapter
    merging = [f"merged with the adapter {adapter.resolve().name}"] if adapter else []
    report.notes += [f"{adapter} was merged into the weights in float32."] if adapter else []
    before, after = (", ".join(sorted({row[side] for row in report.types()})) for side in ("from", "to"))
    if request.changes:
        return [*request.changes, *merging, f"written as {report.format} ({after})"]
    if report.source_format == report.format and all(tensor.action == "copied" for tensor in report.tensors):
        return [f"written anew as {report.format} ({after}), every number unchanged"]
    return [*merging, f"converted from {report.source_format} ({before}) to {report.format} ({after})"]


@dataclasses.dataclass(frozen=True)
class _Duties:
    """What the licence of a source asks for in a target."""

    finding: LicenceFinding
    modifications: list[str]
    checkpoint: Checkpoint

    def _arguments(self) -> dict[str, Any]:
        return {
            "base": self.finding.base,
            "modifications": self.modifications,
            "source": self.checkpoint.path,
            "source_metadata": self.checkpoint.gguf_metadata,
        }

    def metadata(self) -> dict[str, Any]:
        """Keys of a GGUF file."""
        return duties_metadata(self.finding.licence, **self._arguments())

    def files(self, file_name: str) -> dict[str, bytes]:
        """Files in the folder, or beside the file `file_name`."""
        return duty_files(self.finding.licence, **self._arguments(), file_name=file_name)

    def card(self) -> dict[str, str | None]:
        """Entries of a model card's head."""
        terms = terms_of(self.finding.licence)
        return {"license": terms.identifiers[0] if terms else None, "base_model": self.finding.base}


def _recodings(checkpoint: Checkpoint, request: Request, types: Mapping[str, str]) -> list[Recoding]:
    """Each tensor with its name and form in the target."""
    for name in request.importance:
        if name not in checkpoint.tensors:
            raise UsageError(f'importance: "{name}" is no tensor of this model. Make it from this model.')
    places = target_placements(request.to, checkpoint.config)
    tensors = []
    for name, tensor in checkpoint.tensors.items():
        weights = request.importance.get(name)
        if weights is not None and weights.shape != tensor.shape[-1:]:
            raise UsageError(
                f'importance: "{name}" has shape {weights.shape}, expected {tensor.shape[-1:]}, a number for each '
                "column. Make it from this model."
            )
        place = places[name]
        tensors.append(Recoding(tensor, place.source, types[name], place.transform, weights))
    return tensors


def _row(tensor: Recoding) -> TensorRow:
    return TensorRow(
        source_name=tensor.tensor.source_name,
        name=tensor.name,
        shape=tensor.shape,
        source_type=tensor.tensor.stored_type,
        type=tensor.stored_type,
        num_bytes=tensor.num_bytes,
        action="copied" if tensor.keeps_numbers else "converted",
    )


def _tokenizer(checkpoint: Checkpoint, report: ConversionReport) -> Tokenizer | None:
    """The source's tokenizer; None, with a note, where there is none."""
    metadata = checkpoint.gguf_metadata
    try:
        if metadata is None:
            tokenizer = load_tokenizer(checkpoint.tokenizer_files or checkpoint.path.parent)
        elif metadata.get("tokenizer.ggml.model") in (None, NO_VOCABULARY):
            tokenizer = load_tokenizer(checkpoint.path.parent)
        else:
            tokenizer = tokenizer_from_keys(metadata, checkpoint.path.name)
    except NotFoundError:
        report.notes.append("The source has no tokenizer, so the target has none: it takes token ids, no text.")
        return None
    check_tokenizer_matches(tokenizer, checkpoint.config.vocab_size, checkpoint.path.name)
    return tokenizer


def _name(checkpoint: Checkpoint, base: str | None) -> str:
    """What to call the model: as its GGUF file does, else after its base, else after its file or folder."""
    stated = (checkpoint.gguf_metadata or {}).get("general.name")
    if isinstance(stated, str) and stated:
        return stated
    if base:
        return base.rpartition("/")[2]
    path = checkpoint.path.resolve()
    return path.name if path.is_dir() else path.stem
