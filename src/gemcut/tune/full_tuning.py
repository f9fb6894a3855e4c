"""Full tuning: every tensor of the decoder is trained, as a float32 master that is cast for each product."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from keras import ops

from gemcut.config import DecoderConfig
from gemcut.config.parameters import EMBEDDING, FINAL_NORM, OUTPUT_HEAD, fused_layer_shapes, parameter_shapes

Tensor = Any


class FullTuning:
    """All tensors, by our names, in float32.

    Args:
        config: The decoder's.
        source: Reads a tensor as float32 by its name.
        dtype: Compute type of the products.
    """

    def __init__(self, config: DecoderConfig, source: Callable[[str], np.ndarray], dtype: str) -> None:
        self.config, self.dtype, self._source = config, dtype, source
        head = EMBEDDING if config.tie_word_embeddings else OUTPUT_HEAD
        self._outer = {"embedding": EMBEDDING, "final_norm": FINAL_NORM, "head": head}
        self.outer_names = tuple(dict.fromkeys((EMBEDDING, head)))
        self._fused = {name: (len(shape), parts) for name, (shape, parts) in fused_layer_shapes(config).items()}

    def initial(self) -> Iterator[tuple[str, np.ndarray]]:
        """The tensors of the base model."""
        return ((name, self._source(name)) for name in parameter_shapes(self.config))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all tensors."""
        return parameter_shapes(self.config)

    def of_layer(self, trained: Mapping[str, Tensor], layer_index: int) -> dict[str, Tensor]:
        """A layer's tensors by their names inside the layer."""
        prefix = f"model.layers.{layer_index}."
        parts = (part for _, parts in self._fused.values() for part in parts)
        return {part: trained[prefix + part] for part in parts}

    def layer_weights(self, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors as the decoder stacks them, matrices in the compute type; gains of norms stay float32."""
        weights = {}
        for name, (num_axes, parts) in self._fused.items():
            if num_axes == 1:
                weights[name] = trained[parts[0]]
                continue
            cast = [ops.cast(trained[part], self.dtype) for part in parts]
            weights[name] = cast[0] if len(cast) == 1 else ops.concatenate(cast)
        return weights

    def outer_weight(self, name: str, frozen: dict[str, Any], trained: Mapping[str, Tensor]) -> Tensor:
        """The tensor as it is, in float32."""
        return trained[self._outer[name]]
