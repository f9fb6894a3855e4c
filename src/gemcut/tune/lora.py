"""LoRA: two small float32 factors for each chosen matrix are trained, the weights stay as they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from keras import ops

from gemcut.config import DecoderConfig
from gemcut.config.parameters import fused_layer_shapes, layer_shapes
from gemcut.errors import UsageError
from gemcut.interfaces import LowRankUpdate
from gemcut.tune.recipe import LoraSettings

Tensor = Any

A, B = ".lora_A", ".lora_B"


class Lora:
    """The adapter that is trained: W x + scale * B (A x) for each chosen matrix W (out, in).

    What is trained are the factors of the matrices as Hugging Face names them: "model.layers.0.self_attn.q_proj.lora_A"
    (r, in) and "....lora_B" (out, r). Where the decoder stacks matrices, the factors are stacked inside the step.

    Args:
        config: The decoder's.
        settings: Rank, scale, targets.
        dtype: Compute type of the products.
        seed: Of the random beginning of A.

    Raises:
        UsageError: a target names no matrix of the layers, or the settings ask for what is not there.
    """

    outer_names: tuple[str, ...] = ()

    def __init__(self, config: DecoderConfig, settings: LoraSettings, dtype: str, seed: int = 0) -> None:
        if settings.dropout:
            raise UsageError(f"lora.dropout is {settings.dropout}, expected 0: there is no dropout yet.")
        self.config, self.settings, self.dtype, self._seed = config, settings, dtype, seed
        self.scale = settings.alpha / (math.sqrt(settings.rank) if settings.rslora else settings.rank)
        self._rows = {name: shape[0] for name, shape in layer_shapes(config).items()}
        self._fused = {name: parts for name, (shape, parts) in fused_layer_shapes(config).items() if len(shape) == 2}
        self.targets = tuple(
            name.removesuffix(".weight")
            for name, shape in layer_shapes(config).items()
            if len(shape) == 2 and _is_named(name.removesuffix(".weight"), settings.targets)
        )
        for target in settings.targets:
            if not any(_is_named(name, (target,)) for name in self.targets):
                known = ", ".join(name.rpartition(".")[2].removesuffix("") for name in self._matrices())
                raise UsageError(f"lora.targets: {target!r} names no matrix of the layers, expected some of {known}.")

    def initial(self) -> Iterator[tuple[str, np.ndarray]]:
        """A uniform between -1 / sqrt(in) and 1 / sqrt(in), B zero: as PEFT begins.

        Source: peft 0.21.2, `LoraLayer.reset_lora_parameters`: kaiming_uniform_ with a = sqrt(5).
        """
        generator = np.random.default_rng(self._seed)
        rank, shapes = self.settings.rank, layer_shapes(self.config)
        for index in range(self.config.num_hidden_layers):
            for target in self.targets:
                rows, columns = shapes[f"{target}.weight"]
                bound = columns**-0.5
                name = f"model.layers.{index}.{target}"
                uniform = generator.random((rank, columns), dtype=np.float32)
                yield name + A, (2 * uniform - 1) * np.float32(bound)
                yield name + B, np.zeros((rows, rank), np.float32)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all factors."""
        rank, shapes = self.settings.rank, layer_shapes(self.config)
        return {
            f"model.layers.{index}.{target}{side}": shape
            for index in range(self.config.num_hidden_layers)
            for target in self.targets
            for rows, columns in [shapes[f"{target}.weight"]]
            for side, shape in ((A, (rank, columns)), (B, (rows, rank)))
        }

    def of_layer(self, trained: Mapping[str, Tensor], layer_index: int) -> dict[str, Tensor]:
        """A layer's factors by their names inside the layer."""
        prefix = f"model.layers.{layer_index}."
        return {
            target + side: trained[prefix + target + side] for target in self.targets for side in (A, B)
        }  # fmt: skip

    def layer_weights(self, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The frozen tensors, and beside each adapted matrix the stacked factors in the compute type."""
        weights = dict(frozen)
        for name, parts in self._fused.items():
            found = [part.removesuffix(".weight") for part in parts if part.removesuffix(".weight") in self.targets]
            if found:
                matrix = name.removesuffix(".weight")
                stacked = [trained[part + A] for part in found]
                a = stacked[0] if len(found) == 1 else ops.concatenate(stacked)
                weights[f"{matrix}.lora_a"] = ops.cast(a, self.dtype)
                weights[f"{matrix}.lora_b"] = ops.cast(self._stacked_b(parts, trained) * self.scale, self.dtype)
        return weights

    def outer_weight(self, name: str, frozen: dict[str, Any], trained: Mapping[str, Tensor]) -> Tensor:
        """The frozen one."""
        return frozen[name]

    def updates(self, trained: Mapping[str, np.ndarray]) -> dict[str, LowRankUpdate]:
        """What the adapter adds to each matrix, by our names."""
        return {
            f"model.layers.{index}.{target}.weight": LowRankUpdate(
                trained[f"model.layers.{index}.{target}{A}"], trained[f"model.layers.{index}.{target}{B}"], self.scale
            )
            for index in range(self.config.num_hidden_layers)
            for target in self.targets
        }

    def _stacked_b(self, parts: tuple[str, ...], trained: Mapping[str, Tensor]) -> Tensor:
        """B factors along the diagonal, (out, R); rows of parts without an update are zero."""
        if len(parts) == 1:
            return trained[parts[0].removesuffix(".weight") + B]
        rank, names = self.settings.rank, [part.removesuffix(".weight") for part in parts]
        total = rank * sum(name in self.targets for name in names)
        blocks, column = [], 0
        for name in names:
            if name in self.targets:
                blocks.append(ops.pad(trained[name + B], ((0, 0), (column, total - rank - column))))
                column += rank
            else:
                blocks.append(ops.zeros((self._rows[f"{name}.weight"], total), "float32"))
        return ops.concatenate(blocks)

    def _matrices(self) -> list[str]:
        return [part.removesuffix(".weight") for parts in self._fused.values() for part in parts]


def _is_named(matrix: str, targets: tuple[str, ...]) -> bool:
    """Whether a matrix is one of the targets, by its name or the end of it."""
    return any(matrix == target or matrix.endswith(f".{target}") for target in targets)
