"""The table of ggml's tensor types: number in a GGUF file, name, block length and block size."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class GGMLType:
    """One way of storing a row of numbers.

    Attributes:
        number: What a GGUF file writes for it.
        name: ggml's name, such as "Q4_K".
        block_values: Numbers in one block; a row is a whole number of blocks.
        block_bytes: Bytes of one block.
    """

    number: int
    name: str
    block_values: int
    block_bytes: int


# Source: ggml's public header and the gguf package's GGML_QUANT_SIZES, version 0.19.
_TABLE = (
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 40),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
)

GGML_TYPES: dict[int, GGMLType] = {row[0]: GGMLType(*row) for row in _TABLE}
_BY_NAME = {ggml_type.name: ggml_type for ggml_type in GGML_TYPES.values()}


def type_named(name: str) -> GGMLType:
    """The type called `name`; KeyError for a name that ggml does not have."""
    return _BY_NAME[name]
