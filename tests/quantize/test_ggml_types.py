"""The table of types against the gguf package's."""

from __future__ import annotations

import gguf
import pytest

from gemcut.quantize import GGML_TYPES, type_named


def test_every_type_is_the_gguf_packages() -> None:
    theirs = {int(kind): (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType}
    ours = {number: (kind.name, kind.block_values, kind.block_bytes) for number, kind in GGML_TYPES.items()}
    assert ours.items() <= theirs.items()


def test_types_have_names() -> None:
    assert type_named("Q4_K").number == 12
    with pytest.raises(KeyError, match="Q4_M"):
        type_named("Q4_M")
