"""A tensor as it lies in a file: name, shape, type and bytes; the common result of every reader."""

from __future__ import annotations

import dataclasses

import numpy as np

from gemcut.errors import CheckpointError


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file, nothing of it read yet.

    Attributes:
        name: As the file has it.
        shape: Outermost axis first; matrices are (out, in) in every format.
        stored_type: ggml's name of the type ("BF16", "Q8_0", ...); other types have the format's own name.
        raw: uint8, a view of the memory-mapped file; None when the type is unknown, and with it the size.
        file: The file's name, for messages.
    """

    name: str
    shape: tuple[int, ...]
    stored_type: str
    raw: np.ndarray | None
    file: str


def without_duplicates(parts: list[dict[str, StoredTensor]]) -> dict[str, StoredTensor]:
    """The tensors of several files as one mapping.

    Raises:
        CheckpointError: two files have a tensor of the same name.
    """
    tensors: dict[str, StoredTensor] = {}
    for part in parts:
        for name, tensor in part.items():
            if name in tensors:
                raise CheckpointError(
                    f'{tensor.file}: "{name}" is also in {tensors[name].file}, expected each tensor once. '
                    "The files do not belong together."
                )
            tensors[name] = tensor
    return tensors
