"""How a model's tensors are stored, and what of them one token reads."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping

from gemcut.config import DecoderConfig
from gemcut.config.parameters import EMBEDDING, OUTPUT_HEAD, parameter_shapes
from gemcut.quantize import type_named

# Bytes of a block in the native engine's packed form, where it is not the file's. Source: cpp/kernels/packed.h.
_PACKED_BLOCK_BYTES = {"Q2_K": 164, "Q3_K": 148, "Q4_K": 148, "Q5_K": 180, "Q6_K": 212, "IQ4_NL": 34, "IQ4_XS": 268}


@dataclasses.dataclass(frozen=True)
class StoredWeights:
    """Every tensor of a model with its stored type.

    Attributes:
        config: The decoder.
        types: Our name of each tensor to ggml's name of its type.
        packed: Whether the native engine computes with them, in the form that its kernels read.
    """

    config: DecoderConfig
    types: Mapping[str, str]
    packed: bool

    @functools.cached_property
    def tensor_bytes(self) -> dict[str, float]:
        """Bytes of each tensor; not always whole, because rows of a packed block need not be."""
        return {name: math.prod(shape) * self._bytes_per_value(name) for name, shape in self._shapes.items()}

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        return round(math.fsum(self.tensor_bytes.values()))

    @property
    def bytes_per_token(self) -> int:
        """Bytes that decoding one token reads: every matrix, of the embedding only as a head.

        Of a Q8_0 head the native engine reads 22 of 34 bytes and a row's norm (its screened head).
        """
        head = OUTPUT_HEAD if OUTPUT_HEAD in self._shapes else EMBEDDING
        inside = math.fsum(self.tensor_bytes[name] for name in self._matrices)
        if self.packed and self.types[head] == "Q8_0":
            rows, columns = self._shapes[head]
            return round(inside + rows * (columns / 32 * 22 + 2))
        return round(inside + self.tensor_bytes[head])

    @property
    def layer_multiply_adds(self) -> int:
        """Multiply-adds of the layers' matrices for one token."""
        return sum(math.prod(self._shapes[name]) for name in self._matrices)

    @property
    def head_multiply_adds(self) -> int:
        """Multiply-adds of the output head for one token."""
        return math.prod(self._shapes[EMBEDDING])

    @property
    def is_quantized(self) -> bool:
        """Whether the layers' matrices are mostly stored in blocks of integers."""
        in_blocks = [name for name in self._matrices if type_named(self.types[name]).block_values > 1]
        return len(in_blocks) > len(self._matrices) / 2

    def in_words(self) -> str:
        """The types that hold most of the bytes, the largest share first."""
        totals: dict[str, float] = {}
        for name, num_bytes in self.tensor_bytes.items():
            totals[self.types[name]] = totals.get(self.types[name], 0) + num_bytes
        shares = sorted(((total / self.num_bytes, kind) for kind, total in totals.items()), reverse=True)
        return ", ".join(f"{kind} {share:.0%}" for share, kind in shares if share >= 0.005)

    @functools.cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return parameter_shapes(self.config)

    @functools.cached_property
    def _matrices(self) -> list[str]:
        """The layers' matrices."""
        outside = (EMBEDDING, OUTPUT_HEAD)
        return [name for name, shape in self._shapes.items() if len(shape) == 2 and name not in outside]

    def _bytes_per_value(self, name: str) -> float:
        kind = type_named(self.types[name])
        block_bytes = _PACKED_BLOCK_BYTES.get(kind.name, kind.block_bytes) if self.packed else kind.block_bytes
        return block_bytes / kind.block_values
