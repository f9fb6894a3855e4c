"""What an engine does with a decoder, as pure functions: prefill a chunk, take a step, score rows.

Compiled once per shape by each backend's runner. Layers are (keys, values) pairs laid out as
`gemcut.interfaces.KVCache` says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from gemcut.config import DecoderConfig
from gemcut.model.attention import attention_mask, slot_positions
from gemcut.model.block import begin_block, finish_block
from gemcut.model.decoder import embed, head_logits, normalized
from gemcut.model.leaf_ops import LeafOps
from gemcut.model.rope import rope_tables

Tensor = Any
Layers = list[tuple[Tensor, Tensor]]
Tree = dict[str, Any]
RopeTables = dict[str, tuple[Tensor, Tensor]]


def num_slots(config: DecoderConfig, layer_index: int, capacity: int) -> int:
    """S of one layer's cache: the whole capacity, or a ring of the window."""
    window = config.window(layer_index)
    return capacity if window is None else min(window, capacity)


class DecoderSteps:
    """The steps of one decoder on one backend.

    Args:
        config: The decoder's configuration.
        leaf: The backend's leaf operations.
        dtype: Compute type.
        begin, finish: The two halves of a block; a backend may pass compiled ones.
    """

    def __init__(
        self,
        config: DecoderConfig,
        leaf: LeafOps,
        dtype: str,
        begin: Callable[..., Any] = begin_block,
        finish: Callable[..., Any] = finish_block,
    ) -> None:
        self.config, self.leaf, self.dtype = config, leaf, dtype
        self.begin, self.finish = begin, finish

    def prefill(
        self,
        tree: Tree,
        layers: Layers,
        token_ids: Tensor,
        starts: Tensor,
        counts: Tensor,
        previous: Tensor,
        fresh: bool,
    ) -> tuple[Layers, Tensor, Tensor]:
        """Append a chunk of tokens to each sequence.

        Args:
            tree: `Decoder.tree()`.
            layers: The cache.
            token_ids: int32 (B, T); row b's first `counts[b]` entries are real.
            starts: int32 (B,), tokens already in the cache.
            counts: int32 (B,), from 0 to T.
            previous: (B, D), kept as the last hidden state of rows whose count is 0.
            fresh: True when every start is 0: the cache need not be read.

        Returns:
            The cache, hidden states (B, T, D) and the last real one of each row (B, D).
        """
        config = self.config
        length = token_ids.shape[1]
        offsets = ops.arange(length, dtype="int32")[None, :]
        positions = starts[:, None] + offsets  # (B, T)
        chunk_keys = ops.where(offsets < counts[:, None], positions, -1)
        tables = self.rope_tables(positions)
        x = embed(tree, token_ids, config, self.dtype)
        masks: dict[int, Tensor | None] = {}
        written = []
        for index, weights in enumerate(tree["layers"]):
            keys_cache, values_cache = layers[index]
            window, slots = config.window(index), keys_cache.shape[2]
            if slots not in masks:
                held = chunk_keys
                if not fresh:
                    held = ops.concatenate([slot_positions(starts, slots), chunk_keys], axis=1)
                # In a fresh chunk within the window, causal order alone decides: padding comes last, so none see it.
                causal = fresh and (window is None or window >= length)
                masks[slots] = None if causal else attention_mask(positions, held, window)
            queries, keys, values = self.begin(weights, x, *tables[config.layer_types[index]], config, self.leaf)
            all_keys = keys if fresh else ops.concatenate([keys_cache, keys], axis=2)
            all_values = values if fresh else ops.concatenate([values_cache, values], axis=2)
            attended = self._attend(queries, all_keys, all_values, masks[slots])
            x = self.finish(weights, x, attended, config, self.leaf)
            written.append(
                (
                    self.leaf.write_chunk(keys_cache, keys, starts, counts, fresh),
                    self.leaf.write_chunk(values_cache, values, starts, counts, fresh),
                )
            )
        hidden = normalized(tree, x, config, self.leaf)
        last = ops.take_along_axis(hidden, ops.maximum(counts - 1, 0)[:, None, None], axis=1)[:, 0]  # (B, D)
        return written, hidden, ops.where((counts > 0)[:, None], last, previous)

    def step(
        self,
        tree: Tree,
        layers: Layers,
        token_ids: Tensor,
        lengths: Tensor,
        live: int | None = None,
        tables: RopeTables | None = None,
    ) -> tuple[Layers, Tensor]:
        """Append one token to each sequence.

        Args:
            tree: `Decoder.tree()`.
            layers: The cache; its storage may be reused.
            token_ids: int32 (B,).
            lengths: int32 (B,), tokens in the cache before this one.
            live: Slots from 0 that hold anything, where the caller knows; None reads all of them.
            tables: `rope_tables(lengths[:, None])`, where the caller has them.

        Returns:
            The cache and the hidden states (B, D).
        """
        config = self.config
        tables = tables or self.rope_tables(lengths[:, None])
        x = embed(tree, token_ids[:, None], config, self.dtype)  # (B, 1, D)
        masks: dict[int, tuple[Tensor, Tensor]] = {}  # by slots: mask, and where the new position goes
        written = []
        for index, weights in enumerate(tree["layers"]):
            slots = layers[index][0].shape[2]
            if slots not in masks:
                held = slot_positions(lengths + 1, slots)[:, : slots if live is None else min(slots, live)]
                mask = attention_mask(lengths[:, None], held, config.window(index))
                masks[slots] = mask, ops.mod(lengths, slots)
            mask, places = masks[slots]
            queries, keys, values = self.begin(weights, x, *tables[config.layer_types[index]], config, self.leaf)
            scale, softcap = config.query_scale, config.attn_logit_softcapping
            attended, caches = self.leaf.attend_next(queries, keys, values, layers[index], places, mask, scale, softcap)
            x = self.finish(weights, x, attended, config, self.leaf)
            written.append(caches)
        return written, normalized(tree, x, config, self.leaf)[:, 0]

    def logits(self, tree: Tree, hidden: Tensor) -> Tensor:
        """float32 (R, V) logits of hidden states (R, D)."""
        return head_logits(tree, hidden, self.config, self.leaf)

    def score(self, tree: Tree, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """How probable each target id (R,) is after its hidden state (R, D).

        Returns:
            float32 (R,) log-probabilities, and bool (R,): whether no other id is more probable.
        """
        logits = self.logits(tree, hidden)
        chosen = ops.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
        return chosen - ops.logsumexp(logits, axis=1), chosen >= ops.max(logits, axis=1)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        config = self.config
        return self.leaf.attention(queries, keys, values, mask, config.query_scale, config.attn_logit_softcapping)

    def rope_tables(self, positions: Tensor) -> RopeTables:
        """Cosine and sine (B, 1, T, H / 2) of positions (B, T), by kind of layer."""
        config = self.config
        used = set(config.layer_types)
        return {
            kind: rope_tables(positions, config.head_dim, rope) for kind, rope in config.rope_parameters if kind in used
        }


__all__ = ["DecoderSteps", "num_slots"]
