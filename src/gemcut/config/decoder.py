"""The one configuration of the one decoder: what each layer has, in the words of Hugging Face's config.json."""

from __future__ import annotations

import dataclasses
import math

from gemcut.errors import ConfigError

SLIDING_ATTENTION = "sliding_attention"
FULL_ATTENTION = "full_attention"
LAYER_TYPES = (SLIDING_ATTENTION, FULL_ATTENTION)
ACTIVATIONS = ("gelu_pytorch_tanh", "silu")


@dataclasses.dataclass(frozen=True)
class RopeParameters:
    """Rotary position embedding of one kind of layer.

    Attributes:
        rope_theta: Base of the geometric frequency sequence; above 1.
        factor: Positions are divided by this before rotation (linear scaling); 1.0 means unscaled.
    """

    rope_theta: float = 10_000.0
    factor: float = 1.0


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Everything the decoder's arithmetic depends on.

    Attributes:
        vocab_size: Rows of the embedding matrix, V.
        hidden_size: Model width, D.
        intermediate_size: Feed-forward width of one branch (gate not counted), F.
        num_hidden_layers: L.
        num_attention_heads: Query heads, N.
        num_key_value_heads: Key/value heads, K; divides N.
        head_dim: Width of one head, H; even.
        max_position_embeddings: Context in tokens, prompt and answer together.
        layer_types: L names out of `LAYER_TYPES`.
        sliding_window: Tokens a query sees in sliding layers, its own included; None without such layers.
        rope_parameters: (layer type, RopeParameters) pairs, one for each type in `layer_types`.
        query_pre_attn_scalar: Queries are multiplied by this number to the power of -1/2.
        rms_norm_eps: Added to the mean square inside every norm.
        hidden_activation: Activation of the gate branch, out of `ACTIVATIONS`.
        tie_word_embeddings: The output head is the embedding matrix.
        scale_embeddings: Embeddings are multiplied by sqrt(D), rounded to the compute dtype first.
        norm_unit_offset: A stored norm gain w is applied as (1 + w), in float32 before the cast back;
            otherwise as w, after the cast back (Llama's order).
        post_norms: Attention and feed-forward outputs are normalised before they are added back.
        qk_norm: Queries and keys are normalised per head before rotation.
        attn_logit_softcapping: c in c * tanh(scores / c), before the mask; None for none.
        final_logit_softcapping: The same on the output logits; None for none.
        bos_token_id, pad_token_id: Ids; None when the checkpoint names none.
        eos_token_ids: Ids that end a text, in the checkpoint's order.
        model_type: Hugging Face's name of the family; it names files and templates, never arithmetic.

    Raises:
        ConfigError: fields contradict each other.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    layer_types: tuple[str, ...]
    sliding_window: int | None
    rope_parameters: tuple[tuple[str, RopeParameters], ...]
    query_pre_attn_scalar: float
    rms_norm_eps: float = 1e-6
    hidden_activation: str = "gelu_pytorch_tanh"
    tie_word_embeddings: bool = True
    scale_embeddings: bool = True
    norm_unit_offset: bool = True
    post_norms: bool = False
    qk_norm: bool = False
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None
    bos_token_id: int | None = 2
    pad_token_id: int | None = 0
    eos_token_ids: tuple[int, ...] = (1,)
    model_type: str = "gemma"

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_layers()
        self._check_numbers()

    def _check_sizes(self) -> None:
        sizes = (
            "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
            "num_key_value_heads head_dim max_position_embeddings"
        )
        for name in sizes.split():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"config: {name} is {value!r}, expected a whole number of at least 1.")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"config: num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}."
            )
        if self.head_dim % 2:
            raise ConfigError(f"config: head_dim is {self.head_dim}, expected an even number (RoPE rotates halves).")

    def _check_layers(self) -> None:
        if len(self.layer_types) != self.num_hidden_layers:
            raise ConfigError(
                f"config: layer_types has {len(self.layer_types)} entries, "
                f"expected {self.num_hidden_layers} = num_hidden_layers."
            )
        ropes = dict(self.rope_parameters)
        for layer_type in sorted(set(self.layer_types)):
            if layer_type not in LAYER_TYPES:
                raise ConfigError(f"config: layer type {layer_type!r} is not one of {', '.join(LAYER_TYPES)}.")
            if layer_type not in ropes:
                raise ConfigError(f"config: rope_parameters has no entry for {layer_type!r} layers.")
        if SLIDING_ATTENTION in self.layer_types and (self.sliding_window is None or self.sliding_window < 1):
            raise ConfigError(f"config: sliding_window is {self.sliding_window!r}, but layer_types has sliding layers.")

    def _check_numbers(self) -> None:
        if self.hidden_activation not in ACTIVATIONS:
            raise ConfigError(
                f"config: hidden_activation {self.hidden_activation!r} is not one of {', '.join(ACTIVATIONS)}."
            )
        numbers = {"query_pre_attn_scalar": self.query_pre_attn_scalar, "rms_norm_eps": self.rms_norm_eps}
        numbers |= {
            f"rope_parameters[{kind}].{name}": getattr(rope, name)
            for kind, rope in self.rope_parameters
            for name in ("rope_theta", "factor")
        }
        caps = ("attn_logit_softcapping", "final_logit_softcapping")
        numbers |= {name: getattr(self, name) for name in caps if getattr(self, name) is not None}
        for name, value in numbers.items():
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise ConfigError(f"config: {name} is {value!r}, expected a number above 0.")

    def rope(self, layer_index: int) -> RopeParameters:
        """The rotary parameters of layer `layer_index`."""
        return dict(self.rope_parameters)[self.layer_types[layer_index]]

    def window(self, layer_index: int) -> int | None:
        """Tokens a query of layer `layer_index` sees, its own included; None when it sees all."""
        return self.sliding_window if self.layer_types[layer_index] == SLIDING_ATTENTION else None

    @property
    def query_scale(self) -> float:
        """What queries are multiplied by before the dot product with keys."""
        return float(self.query_pre_attn_scalar) ** -0.5
