"""The types in which a model loses least below a size: what each matrix would lose in each, and the best mix."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from gemcut.checkpoint.checkpoint import Checkpoint
from gemcut.checkpoint.conversion_plan import Request, plan_conversion
from gemcut.checkpoint.gguf_writer import ALIGNMENT
from gemcut.checkpoint.lazy_tensor import LazyTensor
from gemcut.checkpoint.tensor_stream import Progress
from gemcut.machine import usable_cores
from gemcut.quantize import WRITABLE_TYPES, dequantize, quantize, type_named
from gemcut.quantize.encode import usable_importance
from gemcut.quantize.mix import mix_for_size

# Blocks of one matrix differ little from each other: a thousand of 256 tell the error to a few percent.
_SAMPLE_VALUES = 1 << 18
_SAMPLE_ROWS = 16  # at least; as many as the quantiser takes at once
# The records of what was changed name the types, which are not known before.
_RECORD_BYTES = 1024


def types_for_size(
    checkpoint: Checkpoint, request: Request, target_bytes: int, progress: Progress | None = None
) -> dict[str, str]:
    """The type of each tensor, by our names, such that all files of a conversion take at most a size.

    Args:
        checkpoint: The source.
        request: What is to be made, in GGUF; its type does not count.
        target_bytes: The size.
        progress: Called with a matrix's name, and how many of how many are measured.

    Raises:
        UsageError: even the smallest types take more.
        CheckpointError: a number is NaN or infinite.
    """
    _, plain = plan_conversion(checkpoint, dataclasses.replace(request, type=None))
    around = plain.num_bytes - sum(row.num_bytes for row in plain.tensors)
    around += _RECORD_BYTES + (ALIGNMENT - 1) * len(plain.tensors)
    matrices = {name: tensor for name, tensor in checkpoint.tensors.items() if len(tensor.shape) == 2}
    errors = {}
    num_threads = usable_cores()
    with ThreadPoolExecutor(num_threads) as pool:
        measured = pool.map(lambda name: type_errors(matrices[name], request.importance.get(name)), matrices)
        for number, (name, found) in enumerate(zip(matrices, measured, strict=True), 1):
            errors[name] = found
            if progress:
                progress(f"measuring {name}", number, len(matrices))
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    return mix_for_size(shapes, target_bytes, errors, other_bytes=around)


def type_errors(tensor: LazyTensor, importance: np.ndarray | None) -> Mapping[str, float]:
    """What a matrix loses in each type that its rows fit.

    The loss is the weighted squared error as a share of the weighted squares: about how much of the matrix's output
    becomes noise, which adds up over the matrices of a model. It is measured on rows spread evenly.

    Args:
        tensor: The matrix.
        importance: float32 (columns,), weight of each column's error; None for equal ones.
    """
    columns = tensor.shape[-1]
    num_rows = min(tensor.num_rows, max(_SAMPLE_ROWS, _SAMPLE_VALUES // columns))
    values = tensor.stored_rows(np.linspace(0, tensor.num_rows - 1, num_rows).astype(np.int64))
    weights = usable_importance(importance, columns, tensor.name).astype(np.float64)
    energy = float((values.astype(np.float64) ** 2 @ weights).sum())
    errors = {}
    for kind in WRITABLE_TYPES:
        if columns % type_named(kind).block_values:
            continue
        if kind == tensor.stored_type and tensor.update is None:
            errors[kind] = 0.0  # the bytes are copied
            continue
        raw = quantize(values, type_named(kind), importance=importance, num_threads=1, name=tensor.name)
        lost = (dequantize(raw.reshape(-1), type_named(kind), values.shape) - values).astype(np.float64)
        errors[kind] = float((lost**2 @ weights).sum()) / energy if energy else 0.0
    return errors
