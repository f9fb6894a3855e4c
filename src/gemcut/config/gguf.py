"""GGUF metadata to a DecoderConfig and back: the architectures gemma, gemma2, gemma3 and llama (Mistral too).

What a GGUF file leaves to the reader (layer pattern, local RoPE base, query scale) is filled in as llama.cpp does.
A key of the architecture that is neither used nor known to leave the arithmetic alone is an error.

Source: llama.cpp's loaders of these architectures, as vendored in llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gemcut.config.decoder import FULL_ATTENTION, LAYER_TYPES, SLIDING_ATTENTION, DecoderConfig, RopeParameters
from gemcut.config.layer_pattern import periodic_layer_types
from gemcut.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class _Architecture:
    """What one `general.architecture` implies.

    Attributes:
        model_type: Hugging Face's name of the family.
        traits: DecoderConfig fields that the architecture fixes.
        period: Every layer of which the number is a multiple of it is full; None: all layers are alike.
        default_window: Sliding window where the file names none.
        default_caps: Attention and final soft cap where the file names none.
        narrow_scale_layers: At this number of layers queries are scaled by (D / N) ** -0.5, not H ** -0.5.
        local_theta: RoPE base of sliding layers where the file names none; None: the base of full layers.
        scales_local_rope: Whether RoPE scaling holds for sliding layers too.
    """

    model_type: str
    traits: dict[str, Any] = dataclasses.field(default_factory=dict)
    period: int | None = None
    default_window: int | None = None
    default_caps: tuple[float | None, float | None] = (None, None)
    narrow_scale_layers: int | None = None
    local_theta: float | None = None
    scales_local_rope: bool = True


_ARCHITECTURES = {
    "gemma": _Architecture("gemma"),
    "gemma2": _Architecture(
        "gemma2",
        traits={"post_norms": True},
        period=2,
        default_window=4096,
        default_caps=(50.0, 30.0),
        narrow_scale_layers=46,
    ),
    "gemma3": _Architecture(
        "gemma3_text",
        traits={"post_norms": True, "qk_norm": True},
        period=6,
        narrow_scale_layers=62,
        local_theta=10_000.0,
        scales_local_rope=False,
    ),
    "llama": _Architecture(
        "llama",
        traits={"scale_embeddings": False, "norm_unit_offset": False, "hidden_activation": "silu"},
    ),
}
_CAPS = ("attn_logit_softcapping", "final_logit_softcapping")
_USED_KEYS = frozenset(
    """
    vocab_size context_length embedding_length block_count feed_forward_length attention.head_count
    attention.head_count_kv attention.key_length attention.value_length attention.layer_norm_rms_epsilon
    attention.sliding_window attention.sliding_window_pattern attn_logit_softcapping final_logit_softcapping
    rope.freq_base rope.freq_base_swa rope.dimension_count rope.scaling.type rope.scaling.factor rope.scale_linear
    """.split()
)
# Keys that tell how the file was made; the two of RoPE matter to YaRN only, which is refused by its type.
_HARMLESS_KEYS = frozenset(
    ["tensor_data_layout", "rope.scaling.original_context_length", "rope.scaling.finetuned", "mm.tokens_per_image"]
)
_NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {
    "expert_count": (0,),
    "expert_used_count": (0,),
    "attention.causal": (True,),
    "use_parallel_residual": (False,),
    "rope.scaling.attn_factor": (1.0,),
}


class _Keys:
    """The keys of one architecture in a file's metadata."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str, where: str) -> None:
        prefix = architecture + "."
        self.where, self.prefix = where, prefix
        self.values = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
        for key, value in self.values.items():
            self._check_known(key, value)

    def _check_known(self, key: str, value: Any) -> None:
        if key in _USED_KEYS or key in _HARMLESS_KEYS:
            return
        if key not in _NEUTRAL_VALUES:
            raise ConfigError(
                f"{self.where}: metadata key {self.prefix + key!r} (= {value!r:.80}) is not known and could change "
                "what the model computes. It may need a newer Gemcut."
            )
        if value not in _NEUTRAL_VALUES[key]:
            raise ConfigError(
                f"{self.where}: {self.prefix}{key} is {value!r:.80}, expected {_NEUTRAL_VALUES[key][0]!r}: "
                "models with it are not read."
            )

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number; a list of equal numbers, one for each layer, counts as one."""
        value = self.values.get(key, default)
        if isinstance(value, list) and value and all(entry == value[0] for entry in value):
            value = value[0]
        if value is None:
            raise ConfigError(f"{self.where}: metadata key {self.prefix + key!r} is missing. The file is incomplete.")
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{self.where}: {self.prefix}{key} is {value!r:.80}, expected one whole number.")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A float as its author wrote it: GGUF keeps float32, in which 1e-6 is 9.99999997e-07."""
        value = self.values.get(key, default)
        if value is None:
            raise ConfigError(f"{self.where}: metadata key {self.prefix + key!r} is missing. The file is incomplete.")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{self.where}: {self.prefix}{key} is {value!r:.80}, expected a number.")
        return float(str(np.float32(value)))


def config_from_gguf(
    metadata: Mapping[str, Any], where: str, tensor_shapes: Mapping[str, Sequence[int]] | None = None
) -> DecoderConfig:
    """The decoder that a GGUF file's metadata describes.

    Args:
        metadata: All of the file's keys; arrays as lists.
        where: What to call the file in messages.
        tensor_shapes: Shapes (out, in) by GGUF tensor name: an "output.weight" means an output head of its own,
            and the rows of "token_embd.weight" are the vocabulary where no key states it.

    Raises:
        ConfigError: an architecture that is not read, a key missing, unknown or unsupported, or fields that
            contradict each other.
    """
    shapes = tensor_shapes or {}
    name = metadata.get("general.architecture")
    if not isinstance(name, str) or name not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise ConfigError(f"{where}: general.architecture is {name!r:.80}, expected one of {known}.")
    architecture, keys = _ARCHITECTURES[name], _Keys(metadata, name, where)
    width, heads = keys.whole("embedding_length"), keys.whole("attention.head_count")
    head_dim = keys.whole("attention.key_length", width // heads if heads > 0 else 0)
    for key in ("attention.value_length", "rope.dimension_count"):
        if keys.whole(key, head_dim) != head_dim:
            raise ConfigError(f"{where}: {name}.{key} is {keys.whole(key)}, expected {head_dim}, the width of a head.")
    layers = keys.whole("block_count")
    window, layer_types = _attention(keys, architecture, layers)
    fields = architecture.traits | _tokens(metadata, where)
    for cap, default in zip(_CAPS, architecture.default_caps, strict=True):
        fields[cap] = keys.number(cap, default) if cap in keys.values else default
    narrow = architecture.narrow_scale_layers == layers and heads > 0
    try:
        return DecoderConfig(
            vocab_size=_vocab_size(metadata, keys, shapes),
            hidden_size=width,
            intermediate_size=keys.whole("feed_forward_length"),
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=keys.whole("attention.head_count_kv", heads),
            head_dim=head_dim,
            max_position_embeddings=keys.whole("context_length"),
            layer_types=layer_types,
            sliding_window=window,
            rope_parameters=_ropes(keys, architecture, layer_types),
            query_pre_attn_scalar=width // heads if narrow else head_dim,
            rms_norm_eps=keys.number("attention.layer_norm_rms_epsilon"),
            tie_word_embeddings="output.weight" not in shapes,
            model_type=_model_type(metadata, architecture, window),
            **fields,
        )
    except ConfigError as problem:
        raise ConfigError(str(problem).replace("config:", f"{where}:", 1)) from None


def _vocab_size(metadata: Mapping[str, Any], keys: _Keys, shapes: Mapping[str, Sequence[int]]) -> int:
    """Rows of the embedding: as the key says, else as the tensor has, else one for each token."""
    if "vocab_size" in keys.values:
        return keys.whole("vocab_size")
    if "token_embd.weight" in shapes:
        return shapes["token_embd.weight"][0]
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list):
        raise ConfigError(
            f"{keys.where}: has no {keys.prefix}vocab_size, no token_embd.weight and no vocabulary, so the number of "
            "tokens is unknown. The file is incomplete."
        )
    return len(tokens)


def _attention(keys: _Keys, architecture: _Architecture, layers: int) -> tuple[int | None, tuple[str, ...]]:
    """Sliding window and layer types."""
    if not 0 < layers <= 10_000:
        raise ConfigError(f"{keys.where}: {keys.prefix}block_count is {layers}, expected a number of layers.")
    window = keys.whole("attention.sliding_window", architecture.default_window or 0)
    pattern = keys.values.get("attention.sliding_window_pattern", architecture.period)
    if not window:
        return None, (FULL_ATTENTION,) * layers
    if pattern is None:
        # Only Mistral 7B v0.1 has a window under the architecture "llama", and there every layer has it.
        return window, (SLIDING_ATTENTION,) * layers
    if isinstance(pattern, list) and len(pattern) == layers and all(isinstance(entry, bool) for entry in pattern):
        layer_types = tuple(SLIDING_ATTENTION if entry else FULL_ATTENTION for entry in pattern)
    elif isinstance(pattern, int) and not isinstance(pattern, bool) and pattern > 0:
        layer_types = periodic_layer_types(layers, pattern)
    else:
        raise ConfigError(
            f"{keys.where}: {keys.prefix}attention.sliding_window_pattern is {pattern!r:.80}, expected a whole number "
            f"above 0 or a list of {layers} booleans."
        )
    return (window if SLIDING_ATTENTION in layer_types else None), layer_types


def _ropes(
    keys: _Keys, architecture: _Architecture, layer_types: Sequence[str]
) -> tuple[tuple[str, RopeParameters], ...]:
    """Rotary parameters of each kind of layer that occurs."""
    scaling = keys.values.get("rope.scaling.type", "linear" if "rope.scale_linear" in keys.values else "none")
    if scaling not in ("none", "linear"):
        raise ConfigError(
            f"{keys.where}: {keys.prefix}rope.scaling.type is {scaling!r:.80}, expected 'none' or 'linear'."
        )
    factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 1.0)) if scaling == "linear" else 1.0
    theta = keys.number("rope.freq_base", 10_000.0)
    local_theta = keys.number("rope.freq_base_swa", architecture.local_theta or theta)
    factor = factor or 1.0  # llama.cpp takes a factor of 0 for none
    ropes = {
        SLIDING_ATTENTION: RopeParameters(local_theta, factor if architecture.scales_local_rope else 1.0),
        FULL_ATTENTION: RopeParameters(theta, factor),
    }
    return tuple((kind, ropes[kind]) for kind in LAYER_TYPES if kind in layer_types)


def _model_type(metadata: Mapping[str, Any], architecture: _Architecture, window: int | None) -> str:
    """The family's name; a llama file is Mistral's where it has a window or says so in its name."""
    names = f"{metadata.get('general.name', '')} {metadata.get('general.basename', '')}".lower()
    if architecture.model_type == "llama" and (window is not None or "mistral" in names):
        return "mistral"
    return architecture.model_type


# Ends of text, of a turn, and of a message that waits for a tool.
_END_IDS = ("eos_token_id", "eot_token_id", "eom_token_id")


def _tokens(metadata: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The ids that begin, end and fill a text."""
    ids: dict[str, int | None] = {}
    for key in ("bos_token_id", "padding_token_id", *_END_IDS):
        value = metadata.get(f"tokenizer.ggml.{key}")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise ConfigError(f"{where}: tokenizer.ggml.{key} is {value!r:.80}, expected a token id.")
        ids[key] = value
    eos = dict.fromkeys(ids[key] for key in _END_IDS if ids[key] is not None)
    return {"bos_token_id": ids["bos_token_id"], "pad_token_id": ids["padding_token_id"], "eos_token_ids": tuple(eos)}


def config_to_gguf(config: DecoderConfig) -> dict[str, Any]:
    """The metadata keys of a decoder's architecture, `general.architecture` included, the tokenizer's not.

    Raises:
        ConfigError: the family has no GGUF architecture, or GGUF has no key for one of the fields.
    """
    model_type = "llama" if config.model_type == "mistral" else config.model_type
    name = next((name for name, entry in _ARCHITECTURES.items() if entry.model_type == model_type), None)
    if name is None:
        known = ", ".join(entry.model_type for entry in _ARCHITECTURES.values())
        raise ConfigError(f"config: model_type is {config.model_type!r}, expected one of {known}, mistral.")
    ropes = dict(config.rope_parameters)
    rope = ropes.get(FULL_ATTENTION) or config.rope_parameters[0][1]
    keys: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": rope.rope_theta,
        "rope.dimension_count": config.head_dim,
    }
    if rope.factor != 1.0:
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope.factor}
    if config.sliding_window is not None:
        keys["attention.sliding_window"] = config.sliding_window
    for cap in _CAPS:
        if (value := getattr(config, cap)) is not None:
            keys[cap] = value
    architecture = _ARCHITECTURES[name]
    local = ropes.get(SLIDING_ATTENTION, rope)
    if architecture.local_theta not in (None, local.rope_theta):
        keys["rope.freq_base_swa"] = local.rope_theta
    if architecture.period and config.sliding_window is not None:
        implied = periodic_layer_types(config.num_hidden_layers, architecture.period)
        if config.layer_types != implied:
            keys["attention.sliding_window_pattern"] = [kind == SLIDING_ATTENTION for kind in config.layer_types]
    metadata = {"general.architecture": name} | {f"{name}.{key}": value for key, value in keys.items()}
    _check_expressible(config, metadata)
    return metadata


def _check_expressible(config: DecoderConfig, metadata: dict[str, Any]) -> None:
    """Refuse to write metadata that would be read as another decoder."""
    shapes = {} if config.tie_word_embeddings else {"output.weight": (config.vocab_size, config.hidden_size)}
    read_back = config_from_gguf(metadata, "metadata", shapes)
    for field in dataclasses.fields(config):
        if field.name in ("bos_token_id", "pad_token_id", "eos_token_ids", "model_type"):
            continue  # these stand in the tokenizer's keys and in general.name
        wanted, written = getattr(config, field.name), getattr(read_back, field.name)
        if wanted != written:
            raise ConfigError(
                f"config: {field.name} is {wanted!r:.80}, but GGUF's architecture "
                f"{metadata['general.architecture']!r} implies {written!r:.80}. Keep this model in safetensors."
            )
