"""Names and shapes of a decoder's tensors, as they follow from its configuration."""

from __future__ import annotations

import math

from gemcut.config.decoder import DecoderConfig

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
OUTPUT_HEAD = "lm_head.weight"


def layer_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of one layer's tensors by their name inside the layer, matrices as (out, in).

    Returns:
        Insertion-ordered mapping such as {"self_attn.q_proj.weight": (N * H, D), ...}.

    Source: Hugging Face transformers, modeling_gemma, _gemma2 and _gemma3 (names and orientation).
    """
    width, ffn, head = config.hidden_size, config.intermediate_size, config.head_dim
    query_rows, kv_rows = config.num_attention_heads * head, config.num_key_value_heads * head
    shapes: dict[str, tuple[int, ...]] = {"input_layernorm.weight": (width,)}
    shapes |= {
        "self_attn.q_proj.weight": (query_rows, width),
        "self_attn.k_proj.weight": (kv_rows, width),
        "self_attn.v_proj.weight": (kv_rows, width),
        "self_attn.o_proj.weight": (width, query_rows),
    }
    if config.qk_norm:
        shapes |= {"self_attn.q_norm.weight": (head,), "self_attn.k_norm.weight": (head,)}
    # With post-norms, "post_attention_layernorm" is one of them; without, it is the norm before the feed-forward.
    shapes["post_attention_layernorm.weight"] = (width,)
    if config.post_norms:
        shapes |= {"pre_feedforward_layernorm.weight": (width,), "post_feedforward_layernorm.weight": (width,)}
    shapes |= {
        "mlp.gate_proj.weight": (ffn, width),
        "mlp.up_proj.weight": (ffn, width),
        "mlp.down_proj.weight": (width, ffn),
    }
    return shapes


def fused_layer_shapes(config: DecoderConfig) -> dict[str, tuple[tuple[int, ...], tuple[str, ...]]]:
    """One layer's tensors as the decoder holds them: what is multiplied by the same input lies in one matrix.

    Returns:
        Name in the layer to (shape, names of `layer_shapes` whose rows it stacks, in order).
    """
    shapes = layer_shapes(config)
    stacked = {
        "self_attn.qkv_proj.weight": tuple(f"self_attn.{part}_proj.weight" for part in "qkv"),
        "mlp.gate_up_proj.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
    }
    inside = {part for parts in stacked.values() for part in parts}
    single = {name: (name,) for name in shapes if name not in inside}
    return {
        name: ((sum(shapes[part][0] for part in parts), *shapes[parts[0]][1:]), parts)
        for name, parts in {**stacked, **single}.items()
    }


def parameter_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the model, in Hugging Face's names and orientation.

    These names are Gemcut's canonical ones: every checkpoint format maps its own names to them.
    """
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (config.vocab_size, config.hidden_size)}
    for index in range(config.num_hidden_layers):
        shapes |= {f"model.layers.{index}.{name}": shape for name, shape in layer_shapes(config).items()}
    shapes[FINAL_NORM] = (config.hidden_size,)
    if not config.tie_word_embeddings:
        shapes[OUTPUT_HEAD] = (config.vocab_size, config.hidden_size)
    return shapes


def num_parameters(config: DecoderConfig) -> int:
    """Numbers in the model; a tied output head is counted once."""
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())
