"""Which type each tensor gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gemcut.checkpoint.lazy_tensor import LazyTensor
from gemcut.checkpoint.target_types import target_types
from gemcut.errors import UsageError

Q_PROJ, NORM = "model.layers.0.self_attn.q_proj.weight", "model.norm.weight"


def tensors(matrix: str = "BF16", width: int = 256) -> dict[str, LazyTensor]:
    def lazy(name: str, shape: tuple[int, ...], kind: str) -> LazyTensor:
        return LazyTensor(name, name, "f", shape, kind, np.empty(0, np.uint8))

    return {Q_PROJ: lazy(Q_PROJ, (8, width), matrix), NORM: lazy(NORM, (width,), "BF16")}


@pytest.mark.parametrize(
    ("to", "kind", "stored", "wanted"),
    [
        ("hf", None, "BF16", ("BF16", "BF16")),
        ("hf", None, "Q4_K", ("F32", "BF16")),
        ("hf", "F16", "Q4_K", ("F16", "F16")),
        ("gguf", None, "BF16", ("BF16", "F32")),
        ("gguf", None, "Q6_K", ("Q6_K", "F32")),
        ("gguf", "F16", "BF16", ("F16", "F32")),
    ],
)
def test_plain_types_and_those_that_stay(
    to: str, kind: str | None, stored: str, wanted: tuple[str, str], configs: Any
) -> None:
    types, notes = target_types(configs["gemma"], tensors(stored), to, kind)
    assert (types[Q_PROJ], types[NORM]) == wanted
    assert notes == (
        ["Q4_K became F32, which holds its numbers exactly. --type BF16 makes half the size, rounded."]
        if wanted[0] == "F32"
        else []
    )


def test_rows_that_are_no_whole_blocks_are_noted(configs: Any) -> None:
    types, notes = target_types(configs["gemma"], tensors(width=640), "gguf", "Q4_K_M")
    assert (types[Q_PROJ], types[NORM]) == ("Q5_0", "F32")
    assert notes == [
        "1 tensors have rows of 640 numbers, which are no whole number of Q4_K's blocks of 256; they have types with "
        "smaller blocks, mostly Q5_0."
    ]
    assert target_types(configs["gemma"], tensors(), "gguf", "Q4_K_M")[1] == []


def test_types_can_be_given_one_by_one(configs: Any) -> None:
    types, notes = target_types(configs["gemma"], tensors(), "gguf", {Q_PROJ: "Q6_K"})
    assert (types, notes) == ({Q_PROJ: "Q6_K", NORM: "F32"}, [])
    types, notes = target_types(configs["gemma"], tensors(width=640), "gguf", {Q_PROJ: "Q6_K"})
    assert (types[Q_PROJ], notes) == ("Q8_0", [f"{Q_PROJ} is Q8_0, not Q6_K."])
    assert target_types(configs["gemma"], tensors(), "hf", {NORM: "F32"})[0] == {Q_PROJ: "BF16", NORM: "F32"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"q": "F32"}, 'type: "q" is no tensor of this model. Name its tensors'),
        ({NORM: "Q4_0"}, 'type: "model.norm.weight" is to be .Q4_0., expected one of BF16, F16, F32 for hf'),
    ],
    ids=["name", "type"],
)
def test_wrong_types_one_by_one_are_named(given: dict[str, str], message: str, configs: Any) -> None:
    with pytest.raises(UsageError, match=message):
        target_types(configs["gemma"], tensors(), "hf", given)
