"""Names of tensors in each checkpoint format, and what must be done to a stored tensor to get ours.

Our names are those of Hugging Face's text models (config/parameters.py). One table a format; a name that no table
has, or that the configuration has no place for, is an error.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable, Iterable

from gemcut.config.decoder import DecoderConfig
from gemcut.config.parameters import EMBEDDING, FINAL_NORM, OUTPUT_HEAD, parameter_shapes
from gemcut.errors import CheckpointError


class Transform(enum.Enum):
    """How a stored tensor differs from ours."""

    NONE = "stored as it is"
    MINUS_ONE = "stored as 1 + w"
    UNPERMUTE_QUERY = "query rows stored as adjacent pairs"
    UNPERMUTE_KEY = "key rows stored as adjacent pairs"


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where one of our tensors comes from.

    Attributes:
        name: Ours.
        source: The file's.
        transform: What the reader has to undo.
        first_row: Where its rows begin in a tensor that holds several of ours.
        is_fused: Whether the source holds several of ours.
    """

    name: str
    source: str
    transform: Transform = Transform.NONE
    first_row: int = 0
    is_fused: bool = False


# Prefix in the file, and ours; the first that fits counts.
# Source: transformers 5.23 for today's names, its 4.50 releases for "language_model.model.".
_HF_PREFIXES = (
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("model.language_model.", "model."),
    ("model.", "model."),
    ("lm_head.", "lm_head."),
    ("language_model.", "model."),  # from here on: files of the base model, without its head
    ("embed_tokens.", "model.embed_tokens."),
    ("layers.", "model.layers."),
    ("norm.", "model.norm."),
)
_HF_TOWERS = {
    "vision_tower.": "part of the vision tower",
    "model.vision_tower.": "part of the vision tower",
    "multi_modal_projector.": "part of the vision projector",
    "model.multi_modal_projector.": "part of the vision projector",
}
_ROTARY_BUFFER = re.compile(r"(.*\.)?rotary_emb(_local)?\.inv_freq")

_GGUF_GLOBALS = {"token_embd.weight": EMBEDDING, "output_norm.weight": FINAL_NORM, "output.weight": OUTPUT_HEAD}
_GGUF_LAYER = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
# The norm before the feed-forward has another name of ours where there are post-norms.
_GGUF_PLAIN_NORMS = {"ffn_norm.weight": "post_attention_layernorm.weight"}
_GGUF_POST_NORMS = {
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "ffn_norm.weight": "pre_feedforward_layernorm.weight",
    "post_ffw_norm.weight": "post_feedforward_layernorm.weight",
}
_GGUF_NAME = re.compile(r"blk\.(\d+)\.(.+)")

_GEMMA_TORCH_GLOBALS = {"embedder.weight": EMBEDDING, "text_token_embedder.weight": EMBEDDING}
_GEMMA_TORCH_LAYER = {
    "self_attn.query_norm.weight": "self_attn.q_norm.weight",
    "self_attn.key_norm.weight": "self_attn.k_norm.weight",
}
_GEMMA_TORCH_BUFFERS = ("freqs_cis", "local_freqs_cis", "global_freqs_cis")
_GEMMA_TORCH_FUSED = re.compile(r"(model\.layers\.\d+\.self_attn\.)qkv_proj\.weight")


def is_gemma_torch(names: Iterable[str]) -> bool:
    """Whether these are the names of Google's own PyTorch code."""
    return not _GEMMA_TORCH_GLOBALS.keys().isdisjoint(names)


def _place_hf(name: str, config: DecoderConfig) -> list[Placement] | str:
    """Hugging Face: a prefix, then our name; a reason where the tensor is none of the decoder's."""
    place = place_hf(name)
    return place if isinstance(place, str) else [place]


def _place_gguf(name: str, config: DecoderConfig) -> list[Placement] | str:
    """GGUF: short names; 1 + w in the norms of Gemma; Llama's queries and keys in adjacent pairs."""
    return [_gguf_placement(name, config)]


def _gguf_layer_table(config: DecoderConfig) -> dict[str, str]:
    return _GGUF_LAYER | (_GGUF_POST_NORMS if config.post_norms else _GGUF_PLAIN_NORMS)


def _gguf_placement(name: str, config: DecoderConfig) -> Placement:
    if name in _GGUF_GLOBALS:
        ours = _GGUF_GLOBALS[name]
    else:
        table, match = _gguf_layer_table(config), _GGUF_NAME.fullmatch(name)
        if match is None or match[2] not in table:
            return Placement(name, name)
        ours = f"model.layers.{match[1]}.{table[match[2]]}"
    transform = Transform.NONE
    if config.norm_unit_offset and "norm" in ours:
        transform = Transform.MINUS_ONE
    elif not config.norm_unit_offset and ours.endswith("self_attn.q_proj.weight"):
        transform = Transform.UNPERMUTE_QUERY
    elif not config.norm_unit_offset and ours.endswith("self_attn.k_proj.weight"):
        transform = Transform.UNPERMUTE_KEY
    return Placement(ours, name, transform)


def _place_gemma_torch(name: str, config: DecoderConfig) -> list[Placement] | str:
    """Google's PyTorch code: Hugging Face's names but for a few, and query, key and value in one matrix."""
    if name in _GEMMA_TORCH_BUFFERS:
        return "follows from the configuration"
    if name in _GEMMA_TORCH_GLOBALS:
        return [Placement(_GEMMA_TORCH_GLOBALS[name], name)]
    if match := _GEMMA_TORCH_FUSED.fullmatch(name):
        query_rows = config.num_attention_heads * config.head_dim
        kv_rows = config.num_key_value_heads * config.head_dim
        rows = {"q": 0, "k": query_rows, "v": query_rows + kv_rows}
        return [
            Placement(f"{match[1]}{part}_proj.weight", name, first_row=row, is_fused=True) for part, row in rows.items()
        ]
    for theirs, ours in _GEMMA_TORCH_LAYER.items():
        if name.endswith(theirs):
            return [Placement(name.removesuffix(theirs) + ours, name)]
    return _place_hf(name, config)


_FORMATS: dict[str, Callable[[str, DecoderConfig], list[Placement] | str]] = {
    "hf": _place_hf,
    "gguf": _place_gguf,
    "gemma_torch": _place_gemma_torch,
}


def place_hf(name: str) -> Placement | str:
    """Where a tensor under one of Hugging Face's names belongs; the reason if it is none of the text decoder's."""
    if _ROTARY_BUFFER.fullmatch(name):
        return "follows from the configuration"
    for prefix, reason in _HF_TOWERS.items():
        if name.startswith(prefix):
            return reason
    for prefix, ours in _HF_PREFIXES:
        if name.startswith(prefix):
            return Placement(ours + name.removeprefix(prefix), name)
    return Placement(name, name)


def place_tensors(
    names: Iterable[str], naming: str, config: DecoderConfig, where: str
) -> tuple[dict[str, Placement], list[tuple[str, str]]]:
    """Match a file's tensors with the decoder's.

    Args:
        names: The file's.
        naming: "hf", "gguf" or "gemma_torch".
        config: The decoder.
        where: What to call the checkpoint in messages.

    Returns:
        For each of our names where it comes from; and the tensors that the decoder does not need, with the reason.

    Raises:
        CheckpointError: a tensor has no place in the decoder, two have the same, or one is missing.
    """
    wanted = parameter_shapes(config)
    placements: dict[str, Placement] = {}
    unused: list[tuple[str, str]] = []
    for name in names:
        places = _FORMATS[naming](name, config)
        if isinstance(places, str):
            unused.append((name, places))
            continue
        for place in places:
            if place.name == OUTPUT_HEAD and config.tie_word_embeddings:
                unused.append((name, "a copy of the embedding, which is the output head"))
            elif place.name not in wanted:
                raise CheckpointError(
                    f'{where}: "{name}" has no place in a {config.model_type} decoder of {config.num_hidden_layers} '
                    "layers. Pass the config that came with these weights."
                )
            elif place.name in placements:
                raise CheckpointError(
                    f'{where}: "{name}" and "{placements[place.name].source}" are both {place.name}, expected one.'
                )
            else:
                placements[place.name] = place
    missing = [name for name in wanted if name not in placements]
    if missing:
        raise CheckpointError(
            f"{where}: {len(missing)} of {len(wanted)} tensors are missing, the first is {missing[0]}. The checkpoint "
            "is incomplete, or its config belongs to another model."
        )
    return {name: placements[name] for name in wanted}, unused


def target_placements(naming: str, config: DecoderConfig) -> dict[str, Placement]:
    """Where each of our tensors goes in a format that is written: `source` is its name there.

    Args:
        naming: "hf" or "gguf".
        config: The decoder.
    """
    shapes = parameter_shapes(config)
    if naming == "hf":
        return {name: Placement(name, name) for name in shapes}
    table = _gguf_layer_table(config)
    layers = (f"blk.{index}.{name}" for index in range(config.num_hidden_layers) for name in table)
    places = [_gguf_placement(name, config) for name in (*_GGUF_GLOBALS, *layers)]
    by_name = {place.name: place for place in places}
    return {name: by_name[name] for name in shapes}
