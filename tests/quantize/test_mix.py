"""Named mixes as the ggml world has them, and the best mix below a size."""

from __future__ import annotations

import itertools

import gguf
import pytest

from gemcut.config import published
from gemcut.config.parameters import EMBEDDING, OUTPUT_HEAD, parameter_shapes
from gemcut.errors import UsageError
from gemcut.quantize.mix import MIXES, fitting_type, mix_for_size, stored_bytes, tensor_types, use_more_bits


def types_of(model: str, kind: str) -> dict[str, str]:
    config = published(model).config
    return tensor_types(config, parameter_shapes(config), kind)


def layer(index: int, name: str) -> str:
    return f"model.layers.{index}.{name}.weight"


@pytest.mark.parametrize("kind", MIXES)
@pytest.mark.parametrize("model", ["gemma-3-270m", "gemma-2b", "llama-2-7b"])
def test_every_tensor_has_a_type_that_its_rows_fit(model: str, kind: str) -> None:
    shapes = parameter_shapes(published(model).config)
    types = types_of(model, kind)
    assert types.keys() == shapes.keys()
    for name, shape in shapes.items():
        assert stored_bytes(shape, types[name]) > 0
        assert (types[name] == "F32") == (len(shape) == 1 or kind == "F32")
        block, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[types[name]]]
        assert shape[-1] % block == 0


@pytest.mark.parametrize(
    ("kind", "head", "values", "down", "output", "query"),
    [
        ("Q4_0", "Q6_K", ["Q4_0"], ["Q4_0"], "Q4_0", "Q4_0"),
        ("Q8_0", "Q8_0", ["Q8_0"], ["Q8_0"], "Q8_0", "Q8_0"),
        ("BF16", "BF16", ["BF16"], ["BF16"], "BF16", "BF16"),
        ("Q4_K_S", "Q6_K", ["Q5_K"] * 4 + ["Q4_K"], ["Q5_K"] * 2 + ["Q4_K"], "Q4_K", "Q4_K"),
        ("Q4_K_M", "Q6_K", ["Q6_K"] * 2 + ["Q4_K"] * 2 + ["Q6_K"], ["Q6_K"] * 2 + ["Q4_K"] * 2, "Q4_K", "Q4_K"),
        ("Q5_K_M", "Q6_K", ["Q6_K"] * 2 + ["Q5_K"] * 2 + ["Q6_K"], ["Q6_K"] * 2 + ["Q5_K"] * 2, "Q5_K", "Q5_K"),
        ("Q6_K", "Q6_K", ["Q6_K"], ["Q6_K"], "Q6_K", "Q6_K"),
        ("Q2_K", "Q6_K", ["Q3_K"], ["Q3_K"], "Q3_K", "Q2_K"),
        ("Q3_K_M", "Q6_K", ["Q5_K"] * 2 + ["Q4_K"], ["Q5_K", "Q4_K"], "Q4_K", "Q3_K"),
    ],
    ids=lambda value: value if isinstance(value, str) and value in MIXES else "",
)
def test_mixes_of_a_model_of_18_layers(
    kind: str, head: str, values: list[str], down: list[str], output: str, query: str
) -> None:
    types = types_of("gemma-2b", kind)
    assert types[EMBEDDING] == head
    assert [types[layer(index, "self_attn.v_proj")] for index in range(len(values))] == values
    assert [types[layer(index, "mlp.down_proj")] for index in range(len(down))] == down
    assert types[layer(9, "self_attn.o_proj")] == output
    assert types[layer(9, "self_attn.q_proj")] == query


def test_an_embedding_that_is_not_the_head_is_as_most_matrices() -> None:
    types = types_of("llama-2-7b", "Q4_K_M")
    assert (types[EMBEDDING], types[OUTPUT_HEAD]) == ("Q4_K", "Q6_K")


def test_narrow_rows_take_types_with_smaller_blocks() -> None:
    """The same types as in the starter's own file, a Q4_K_M of a model 640 wide."""
    types = types_of("gemma-3-270m", "Q4_K_M")
    assert types[EMBEDDING] == "Q8_0"
    assert [types[layer(0, name)] for name in ("self_attn.q_proj", "self_attn.v_proj")] == ["Q5_0", "Q8_0"]
    assert [types[layer(0, name)] for name in ("self_attn.o_proj", "mlp.down_proj")] == ["Q4_K", "Q6_K"]


def test_mix_is_the_starters_own(starter_path) -> None:
    from gemcut.checkpoint import open_checkpoint

    with open_checkpoint(starter_path) as checkpoint:
        theirs = {name: tensor.stored_type for name, tensor in checkpoint.tensors.items()}
        shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
        assert tensor_types(checkpoint.config, shapes, "Q4_K_M") == theirs


@pytest.mark.parametrize(
    ("name", "columns", "fitting"),
    [("Q4_K", 640, "Q5_0"), ("Q5_K", 640, "Q5_1"), ("Q6_K", 640, "Q8_0"), ("Q2_K", 640, "Q4_0"), ("Q4_K", 512, "Q4_K"),
     ("Q4_K", 100, "F16"), ("Q8_0", 100, "F16"), ("BF16", 100, "BF16")],
)  # fmt: skip
def test_type_that_fits(name: str, columns: int, fitting: str) -> None:
    assert fitting_type(name, columns) == fitting


def test_layers_with_more_bits() -> None:
    assert [index for index in range(18) if use_more_bits(index, 18)] == [0, 1, 4, 7, 10, 13, 15, 16, 17]


def test_unknown_mix_is_named() -> None:
    with pytest.raises(UsageError, match="type is 'Q4_K_X', expected one of F32, F16"):
        types_of("gemma-2b", "Q4_K_X")


SHAPES = {"a": (64, 256), "b": (32, 256), "c": (16, 256), "norm": (256,)}
ERRORS = {
    "a": {"Q4_K": 8.0, "Q6_K": 2.0, "Q8_0": 0.5},
    "b": {"Q4_K": 9.0, "Q5_K": 8.9, "Q6_K": 1.0, "Q8_0": 0.9},
    "c": {"Q4_K": 0.1, "Q6_K": 0.05, "Q8_0": 0.2},
}


def total(mix: dict[str, str]) -> tuple[int, float]:
    size = sum(stored_bytes(shape, mix[name]) for name, shape in SHAPES.items())
    return size, sum(ERRORS[name][mix[name]] for name in ERRORS)


def test_mix_for_size_is_near_the_best_of_all() -> None:
    names = list(ERRORS)
    everything = [
        total({**dict(zip(names, kinds, strict=True)), "norm": "F32"})
        for kinds in itertools.product(*(ERRORS[name] for name in names))
    ]
    smallest, largest = min(size for size, _ in everything), max(size for size, _ in everything)
    previous = float("inf")
    for target in range(smallest, largest + 1, 512):
        size, error = total(mix_for_size(SHAPES, target, ERRORS))
        best = min(error for size, error in everything if size <= target)
        assert size <= target
        # At most the one step that did not fit is missing: the error is that of a target a step lower.
        assert error <= min((e for s, e in everything if s <= target - 8192), default=float("inf")) or error == best
        assert error <= previous
        previous = error
    assert mix_for_size(SHAPES, largest, ERRORS) == {"a": "Q8_0", "b": "Q8_0", "c": "Q6_K", "norm": "F32"}


def test_size_that_cannot_be_reached_is_named() -> None:
    smallest = 112 * 144 + 1024
    assert mix_for_size(SHAPES, smallest, ERRORS) == {"a": "Q4_K", "b": "Q4_K", "c": "Q4_K", "norm": "F32"}
    with pytest.raises(
        UsageError, match=f"the target size is {smallest - 1} bytes, the smallest types take {smallest}"
    ):
        mix_for_size(SHAPES, smallest - 1, ERRORS)
    with pytest.raises(
        UsageError, match=f"the target size is {smallest} bytes, the smallest types take {smallest + 7}"
    ):
        mix_for_size(SHAPES, smallest, ERRORS, other_bytes=7)
