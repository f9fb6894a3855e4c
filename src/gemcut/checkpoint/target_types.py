"""Which type each tensor gets in a conversion's target."""

from __future__ import annotations

from collections.abc import Mapping

from gemcut.checkpoint.lazy_tensor import STORED_DTYPES, LazyTensor
from gemcut.config import DecoderConfig
from gemcut.errors import UsageError
from gemcut.quantize import WRITABLE_TYPES, type_named
from gemcut.quantize.mix import MIXES, fitting_type, tensor_types


def target_types(
    config: DecoderConfig, tensors: Mapping[str, LazyTensor], to: str, kind: str | Mapping[str, str] | None
) -> tuple[dict[str, str], list[str]]:
    """The type of each tensor in the target as ggml names it, and notes where it is not the one asked for.

    Args:
        config: The decoder.
        tensors: By our names.
        to: "hf" or "gguf".
        kind: A type or mix, or types by our names; None, or a name left out, keeps the tensor's type where the format
            has it. Vectors are always F32 in GGUF.

    Raises:
        UsageError: no such type or tensor, or the format does not have it.
    """
    known = list(STORED_DTYPES) if to == "hf" else list(MIXES)
    if isinstance(kind, str) and kind not in known:
        reason = "safetensors holds plain numbers only" if kind in MIXES else "there is no such type"
        raise UsageError(f"type is {kind!r}, expected one of {', '.join(known)} for {to}: {reason}.")
    given = _given_types(tensors, to, kind) if isinstance(kind, Mapping) else {}
    if to == "hf":
        if isinstance(kind, str):
            return dict.fromkeys(tensors, kind), []
        return _stored_types(tensors, given)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if isinstance(kind, str):
        types = tensor_types(config, shapes, kind)
        return types, _fallback_notes(shapes, kind)
    types = {
        name: fitting_type(given.get(name, tensor.stored_type), tensor.shape[-1]) if len(tensor.shape) == 2 else "F32"
        for name, tensor in tensors.items()
    }
    return types, [f"{name} is {types[name]}, not {given[name]}." for name in given if given[name] != types[name]]


def _given_types(tensors: Mapping[str, LazyTensor], to: str, given: Mapping[str, str]) -> Mapping[str, str]:
    """Types by name, each checked."""
    known = sorted(STORED_DTYPES) if to == "hf" else sorted(WRITABLE_TYPES)
    for name, kind in given.items():
        if name not in tensors:
            raise UsageError(f'type: "{name}" is no tensor of this model. Name its tensors as config.parameters does.')
        if kind not in known:
            raise UsageError(f'type: "{name}" is to be {kind!r}, expected one of {", ".join(known)} for {to}.')
    return given


def _stored_types(tensors: Mapping[str, LazyTensor], given: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Types for safetensors: as asked for, else as stored, float32 for what is stored in blocks."""
    kept = {name: t.stored_type if t.stored_type in STORED_DTYPES else "F32" for name, t in tensors.items()}
    blocks = sorted({tensor.stored_type for name, tensor in tensors.items() if name not in given} - set(STORED_DTYPES))
    if not blocks:
        return kept | dict(given), []
    return kept | dict(given), [
        f"{', '.join(blocks)} became F32, which holds its numbers exactly. --type BF16 makes half the size, rounded."
    ]


def _fallback_notes(shapes: Mapping[str, tuple[int, ...]], kind: str) -> list[str]:
    """Which tensors cannot have the blocks of a mix, one note for each width of rows."""
    base = type_named(MIXES[kind].base)
    widths: dict[int, int] = {}
    for shape in shapes.values():
        if len(shape) == 2 and shape[-1] % base.block_values:
            widths[shape[-1]] = widths.get(shape[-1], 0) + 1
    return [
        f"{count} tensors have rows of {width} numbers, which are no whole number of {base.name}'s blocks of "
        f"{base.block_values}; they have types with smaller blocks, mostly {fitting_type(base.name, width)}."
        for width, count in widths.items()
    ]
