"""What a conversion did: tensors in, out, unused and made, bytes, types, digests."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

MIXED = "mixed"  # the type of a conversion that was told each tensor's own


@dataclasses.dataclass
class TensorRow:
    """One tensor that was written.

    Attributes:
        source_name, name: In the source and in the target.
        shape: Matrices are (out, in).
        source_type, type: ggml's names of the stored types.
        num_bytes: Bytes in the target.
        action: "copied" (the same bytes, rows perhaps in another order) or "converted".
        overflowed: Numbers beyond the type's largest, which they became.
        vanished: Numbers other than 0 that became 0.
    """

    source_name: str
    name: str
    shape: tuple[int, ...]
    source_type: str
    type: str
    num_bytes: int
    action: str
    overflowed: int = 0
    vanished: int = 0


@dataclasses.dataclass
class ConversionReport:
    """What a conversion did, or with `dry_run` would do.

    Attributes:
        source, target: Paths.
        source_format, format: "hf", "gguf" or "torch"; "hf" or "gguf".
        type: What was asked for, or MIXED; None where each tensor keeps its type.
        consumer: Whom the target is for; None when nobody was named.
        dry_run: Whether nothing was written.
        tensors: Each tensor that was written, in the target's order.
        unused: (name, reason) of what the source holds and the target does not.
        made: (name, reason) of what the target holds and the source does not.
        notes: What a user should know, in sentences.
        licence, base: Name of the licence and of the model it was decided from; None when not known.
        files: (name, bytes, SHA-256) of each file; no digest in a dry run.
        seconds: Time it took.
    """

    source: Path
    target: Path
    source_format: str
    format: str
    type: str | None
    consumer: str | None
    dry_run: bool
    tensors: list[TensorRow]
    unused: list[tuple[str, str]]
    made: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    licence: str | None = None
    base: str | None = None
    files: list[tuple[str, int, str | None]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @property
    def num_bytes(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, _ in self.files)

    def types(self) -> list[dict[str, Any]]:
        """Number and bytes of the tensors for each pair of types, the largest share first."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for tensor in self.tensors:
            key = (tensor.source_type, tensor.type)
            row = rows.setdefault(key, {"from": key[0], "to": key[1], "tensors": 0, "bytes": 0})
            row["tensors"] += 1
            row["bytes"] += tensor.num_bytes
        return sorted(rows.values(), key=lambda row: -row["bytes"])

    def as_json(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        named = ("name", "reason")
        return {
            "source": str(self.source),
            "target": str(self.target),
            "source_format": self.source_format,
            "format": self.format,
            "type": self.type,
            "for": self.consumer,
            "dry_run": self.dry_run,
            "tensors_in": len({tensor.source_name for tensor in self.tensors}) + len(self.unused),
            "tensors_out": len(self.tensors),
            "bytes": self.num_bytes,
            "overflowed": sum(tensor.overflowed for tensor in self.tensors),
            "vanished": sum(tensor.vanished for tensor in self.tensors),
            "types": self.types(),
            "tensors": [dataclasses.asdict(tensor) | {"shape": list(tensor.shape)} for tensor in self.tensors],
            "unused": [dict(zip(named, entry, strict=True)) for entry in self.unused],
            "made": [dict(zip(named, entry, strict=True)) for entry in self.made],
            "files": [{"name": name, "bytes": size, "sha256": digest} for name, size, digest in self.files],
            "notes": self.notes,
            "licence": self.licence,
            "base": self.base,
            "seconds": self.seconds,
        }
