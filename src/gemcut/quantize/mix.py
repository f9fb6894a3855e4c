"""Which number format each tensor gets: the ggml world's named mixes, or the best mix below a size."""

from __future__ import annotations

import dataclasses
import heapq
import math
import re
from collections.abc import Iterator, Mapping

from gemcut.config import DecoderConfig
from gemcut.config.parameters import EMBEDDING, OUTPUT_HEAD
from gemcut.errors import UsageError
from gemcut.quantize.ggml_types import type_named

_LAYER_NAME = re.compile(r"model\.layers\.(\d+)\.(.+)")
# A row that is no whole number of a type's blocks takes the next larger type with smaller ones.
_SMALLER_BLOCKS = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


@dataclasses.dataclass(frozen=True)
class _Mix:
    """A named mix: most matrices in `base`, others for those that suffer most from few bits.

    Attributes:
        base: Type of most matrices.
        values: Type of v_proj in the layers that `use_more_bits` picks, or in the first `first_values` layers.
        down: Type of down_proj in the layers that `use_more_bits` picks, or in the first eighth.
        rest_values, rest_down, output: Types of v_proj and down_proj in other layers and of o_proj; None for the base.
    """

    base: str
    values: str | None = None
    down: str | None = None
    first_values: int | None = None
    first_down: int | None = None  # the first layers / first_down layers
    rest_values: str | None = None
    rest_down: str | None = None
    output: str | None = None


# Source: llama.cpp's rules for a dense decoder (llama-quant.cpp, ggml 0.25).
MIXES = {
    **{kind: _Mix(kind) for kind in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q6_K")},
    "Q2_K": _Mix("Q2_K", rest_values="Q3_K", rest_down="Q3_K", output="Q3_K"),
    "Q3_K_S": _Mix("Q3_K"),
    "Q3_K_M": _Mix(
        "Q3_K", "Q5_K", "Q5_K", first_values=2, first_down=16, rest_values="Q4_K", rest_down="Q4_K", output="Q4_K"
    ),
    "Q3_K_L": _Mix("Q3_K", rest_values="Q5_K", rest_down="Q5_K", output="Q5_K"),
    "Q4_K_S": _Mix("Q4_K", "Q5_K", "Q5_K", first_values=4, first_down=8),
    "Q4_K_M": _Mix("Q4_K", "Q6_K", "Q6_K"),
    "Q5_K_S": _Mix("Q5_K"),
    "Q5_K_M": _Mix("Q5_K", "Q6_K", "Q6_K"),
}
_FLOATS = ("F32", "F16", "BF16")


def fitting_type(name: str, num_columns: int) -> str:
    """Type `name`, or what stands in for it in rows of `num_columns` that are no whole number of its blocks."""
    while num_columns % type_named(name).block_values:
        name = _SMALLER_BLOCKS.get(name, "F16")
    return name


def use_more_bits(layer_index: int, num_layers: int) -> bool:
    """Whether the _M mixes spend more on a layer: the first and last eighth, and every third between."""
    eighth = num_layers // 8
    return layer_index < eighth or layer_index >= 7 * num_layers // 8 or (layer_index - eighth) % 3 == 2


def tensor_types(config: DecoderConfig, shapes: Mapping[str, tuple[int, ...]], kind: str) -> dict[str, str]:
    """The type of each tensor in a named mix; norms and other vectors stay F32.

    Args:
        config: The decoder.
        shapes: Shapes by our names, matrices as (out, in).
        kind: One of `MIXES`.

    Raises:
        UsageError: there is no such mix.
    """
    if kind not in MIXES:
        raise UsageError(f"type is {kind!r}, expected one of {', '.join(MIXES)}.")
    return {
        name: fitting_type(_wanted(name, config, MIXES[kind], shape[-1]), shape[-1]) if len(shape) == 2 else "F32"
        for name, shape in shapes.items()
    }


def _wanted(name: str, config: DecoderConfig, mix: _Mix, num_columns: int) -> str:
    """What the mix has for a matrix, whether or not its rows are whole blocks."""
    if mix.base in _FLOATS:
        return mix.base
    if name == OUTPUT_HEAD or (name == EMBEDDING and config.tie_word_embeddings):
        whole = num_columns % type_named(mix.base).block_values == 0
        return "Q6_K" if whole and mix.base != "Q8_0" else "Q8_0"
    if (match := _LAYER_NAME.fullmatch(name)) is None:
        return mix.base
    index, num_layers = int(match[1]), config.num_hidden_layers
    more = use_more_bits(index, num_layers)
    if match[2] == "self_attn.v_proj.weight":
        picked = more if mix.first_values is None else index < mix.first_values
        return (mix.values if picked else None) or mix.rest_values or mix.base
    if match[2] == "mlp.down_proj.weight":
        picked = more if mix.first_down is None else index < num_layers // mix.first_down
        return (mix.down if picked else None) or mix.rest_down or mix.base
    if match[2] == "self_attn.o_proj.weight":
        return mix.output or mix.base
    return mix.base


def stored_bytes(shape: tuple[int, ...], name: str) -> int:
    """Bytes of a tensor in type `name`."""
    kind = type_named(name)
    return math.prod(shape) // kind.block_values * kind.block_bytes


def mix_for_size(
    shapes: Mapping[str, tuple[int, ...]],
    target_bytes: int,
    errors: Mapping[str, Mapping[str, float]],
    other_bytes: int = 0,
) -> dict[str, str]:
    """The mix of least total error whose tensors take at most `target_bytes`, less `other_bytes`.

    Starts from each tensor's smallest type and spends where a byte buys most, along the lower convex hull of each
    tensor's (bytes, error): the optimum but for the last step that does not fit.

    Args:
        shapes: Shapes by our names.
        target_bytes: All tensors together, and what else there is.
        errors: For each tensor that may be quantised, the error it causes in each type it may take. They must be
            additive over tensors: weighted squared errors, or the divergence that each alone causes. Other tensors
            stay F32.
        other_bytes: What else there is: the file's header.

    Raises:
        UsageError: even the smallest types take more.
    """
    hulls = {name: list(_hull(shapes[name], errors[name])) for name in errors}
    chosen = dict.fromkeys(errors, 0)
    spent = other_bytes + sum(hull[0][0] for hull in hulls.values())
    spent += sum(stored_bytes(shape, "F32") for name, shape in shapes.items() if name not in errors)
    if spent > target_bytes:
        raise UsageError(
            f"the target size is {target_bytes} bytes, the smallest types take {spent}. Ask for at least that."
        )
    upgrades = [(_slope(hull, 0), name) for name, hull in hulls.items() if len(hull) > 1]
    heapq.heapify(upgrades)
    while upgrades:
        _, name = heapq.heappop(upgrades)
        hull, index = hulls[name], chosen[name]
        if spent + hull[index + 1][0] - hull[index][0] > target_bytes:
            continue  # a smaller tensor may still fit
        spent += hull[index + 1][0] - hull[index][0]
        chosen[name] = index + 1
        if index + 2 < len(hull):
            heapq.heappush(upgrades, (_slope(hull, index + 1), name))
    return {name: hulls[name][chosen[name]][2] if name in hulls else "F32" for name in shapes}


def _slope(hull: list[tuple[int, float, str]], index: int) -> float:
    """Error a byte of the next step: the more negative, the better the step."""
    return (hull[index + 1][1] - hull[index][1]) / (hull[index + 1][0] - hull[index][0])


def _hull(shape: tuple[int, ...], errors: Mapping[str, float]) -> Iterator[tuple[int, float, str]]:
    """Types worth taking: bytes rising, error falling, ever less for a byte."""
    points = sorted((stored_bytes(shape, name), error, name) for name, error in errors.items())
    here = points[0]
    yield here
    while better := [point for point in points if point[0] > here[0] and point[1] < here[1]]:
        start = here
        here = min(better, key=lambda point: ((point[1] - start[1]) / (point[0] - start[0]), -point[0]))
        yield here
