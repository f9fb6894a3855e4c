"""Hugging Face's config.json to a DecoderConfig and back: Gemma 1, 2 and 3 (text part), Llama and Mistral.

Old keys (transformers 4) and new ones (transformers 5) are both read. A key that is neither used nor known to
leave the arithmetic alone is an error: a model that runs differently from its checkpoint is worse than none.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from gemcut.config.decoder import FULL_ATTENTION, LAYER_TYPES, SLIDING_ATTENTION, DecoderConfig, RopeParameters
from gemcut.config.layer_pattern import periodic_layer_types
from gemcut.errors import ConfigError

_SIZES = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "max_position_embeddings"
).split()
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclasses.dataclass(frozen=True)
class _Family:
    """What one `model_type` means.

    Attributes:
        architecture: The class name that config.json carries.
        sizes: Defaults of `_SIZES`, in that order; None follows from the others.
        token_ids: Defaults of `_TOKEN_IDS`, in that order.
        activation_key: The key that names the activation, with its default.
        traits: DecoderConfig fields that the family fixes.
        defaults: Keys the family has besides, with their defaults.
        theta: RoPE base, where the file names none.
        local_theta: RoPE base of sliding layers where it is their own.

    Source: the configuration classes of transformers 5.23 (keys that a published file omits take these values).
    """

    architecture: str
    sizes: tuple[int | None, ...]
    token_ids: tuple[int | None, ...]
    activation_key: tuple[str, str]
    traits: dict[str, Any]
    defaults: dict[str, Any]
    theta: float = 10_000.0
    local_theta: float | None = None


_GEMMA_IDS = (2, 1, 0)
_LLAMA_IDS = (1, 2, None)
_LLAMA_TRAITS = {"scale_embeddings": False, "norm_unit_offset": False}
_GEMMA2_KEYS = {"query_pre_attn_scalar": 256, "sliding_window": 4096, "sliding_window_size": None, "layer_types": None}
_FAMILIES = {
    "gemma": _Family(
        architecture="GemmaForCausalLM",
        sizes=(256_000, 3072, 24_576, 28, 16, 16, 256, 8192),
        token_ids=_GEMMA_IDS,
        activation_key=("hidden_act", "gelu_pytorch_tanh"),
        traits={},
        defaults={"tie_word_embeddings": True},
    ),
    "gemma2": _Family(
        architecture="Gemma2ForCausalLM",
        sizes=(256_000, 2304, 9216, 26, 8, 4, 256, 8192),
        token_ids=_GEMMA_IDS,
        activation_key=("hidden_activation", "gelu_pytorch_tanh"),
        traits={"post_norms": True},
        defaults=_GEMMA2_KEYS
        | {"tie_word_embeddings": True, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    ),
    "gemma3_text": _Family(
        architecture="Gemma3ForCausalLM",
        sizes=(262_208, 2304, 9216, 26, 8, 4, 256, 131_072),
        token_ids=_GEMMA_IDS,
        activation_key=("hidden_activation", "gelu_pytorch_tanh"),
        traits={"post_norms": True, "qk_norm": True},
        defaults=_GEMMA2_KEYS
        | {"tie_word_embeddings": True, "attn_logit_softcapping": None, "final_logit_softcapping": None}
        | {"sliding_window_pattern": None, "_sliding_window_pattern": None, "rope_local_base_freq": None},
        theta=1_000_000.0,
        local_theta=10_000.0,
    ),
    "llama": _Family(
        architecture="LlamaForCausalLM",
        sizes=(32_000, 4096, 11_008, 32, 32, None, None, 2048),
        token_ids=_LLAMA_IDS,
        activation_key=("hidden_act", "silu"),
        traits=_LLAMA_TRAITS,
        defaults={"tie_word_embeddings": False},
    ),
    "mistral": _Family(
        architecture="MistralForCausalLM",
        sizes=(32_000, 4096, 14_336, 32, 32, 8, None, 131_072),
        token_ids=_LLAMA_IDS,
        activation_key=("hidden_act", "silu"),
        traits=_LLAMA_TRAITS,
        defaults={"tie_word_embeddings": False, "sliding_window": 4096},
    ),
}
_COMMON_KEYS = {*_SIZES, *_TOKEN_IDS, "model_type", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters"}

# Keys that may change the arithmetic, and the values at which they do not.
_NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "use_bidirectional_attention": (False, None),
    "pretraining_tp": (1, None),
    "quantization_config": (None,),
    "partial_rotary_factor": (1.0, None),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_encoder_decoder": (False,),
    "pruned_heads": ({}, None),
    "sliding_window": (None,),
    "use_sliding_window": (False, None),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "hidden_activation": ("gelu_pytorch_tanh", None),
    "hidden_act": ("gelu_pytorch_tanh", "gelu", None),
}
# Keys that describe training, saving, sampling or other tasks; inference never reads them.
_HARMLESS_KEYS = frozenset(
    """
    _attn_implementation _attn_implementation_autoset _commit_hash _model_name_or_path _name_or_path architectures
    attention_dropout
    attn_implementation bad_words_ids begin_suppress_tokens cache_implementation chunk_size_feed_forward
    cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample dtype early_stopping
    encoder_no_repeat_ngram_size exponential_decay_length_penalty finetuning_task forced_bos_token_id
    forced_eos_token_id gradient_checkpointing hidden_dropout id2label initializer_range is_decoder label2id
    length_penalty max_length max_sequence_length min_length name_or_path no_repeat_ngram_size num_beam_groups
    num_beams num_labels num_return_sequences output_attentions output_hidden_states output_scores prefix
    problem_type remove_invalid_values repetition_penalty return_dict return_dict_in_generate sep_token_id
    suppress_tokens task_specific_params temperature tf_legacy_loss tokenizer_class top_k top_p torch_dtype
    torchscript transformers_version typical_p unk_token_id unsloth_fixed unsloth_version use_bfloat16 use_cache
    use_return_dict
    """.split()
)
_MULTIMODAL_KEYS = frozenset(
    """
    text_config vision_config mm_tokens_per_image boi_token_index boi_token_id eoi_token_index eoi_token_id
    image_token_index image_token_id
    """.split()
)


def config_from_hf(data: Mapping[str, Any], where: str) -> DecoderConfig:
    """The decoder that a config.json describes; of a multimodal Gemma 3 its text decoder.

    Args:
        data: The file's content.
        where: What to call it in messages.

    Raises:
        ConfigError: a family that is not read, a key that could change the arithmetic and is not known, a known
            key with a value that is not supported, or fields that contradict each other.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: is a {type(data).__name__}, expected a JSON object as in config.json.")
    if data.get("model_type") == "gemma3":
        return _config_from_hf(_text_part(data, where), f"{where}: text_config")
    return _config_from_hf(data, where)


def _text_part(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The text decoder's keys of a multimodal Gemma 3, with those that the outer level states for it."""
    text = data.get("text_config") or {}
    if not isinstance(text, Mapping):
        raise ConfigError(f"{where}: text_config is {text!r}, expected an object with the text decoder's keys.")
    outer = {key: value for key, value in data.items() if key not in _MULTIMODAL_KEYS}
    stated = {key: outer.pop(key) for key in (*_TOKEN_IDS, "tie_word_embeddings") if key in outer}
    shared = {key: value for key, value in stated.items() if value is not None}
    for key in outer:
        _check_unused(key, outer[key], "gemma3", where)
    tied = text.get("tie_word_embeddings", shared.get("tie_word_embeddings"))
    if tied != shared.get("tie_word_embeddings", tied):
        raise ConfigError(
            f"{where}: tie_word_embeddings is {shared['tie_word_embeddings']} outside and {tied} inside text_config. "
            "Make them equal."
        )
    return {"model_type": "gemma3_text", **text, **shared}


def _check_unused(key: str, value: Any, model_type: str, where: str) -> None:
    """Accept a key that the family does not use only where it surely leaves the arithmetic alone."""
    if key in _HARMLESS_KEYS or key == "model_type":
        return
    if key not in _NEUTRAL_VALUES:
        raise ConfigError(
            f"{where}: key {key!r} (= {_short(value)}) is not known for model_type {model_type!r} and could change "
            "what the model computes. Remove it only if it has no effect."
        )
    if value not in _NEUTRAL_VALUES[key]:
        allowed = " or ".join(_short(neutral) for neutral in _NEUTRAL_VALUES[key])
        raise ConfigError(
            f"{where}: {key} is {_short(value)}, expected {allowed}: model_type {model_type!r} is not read with it."
        )


def _short(value: Any) -> str:
    """A value as JSON users know it, cut to a readable length."""
    text = {None: "null", True: "true", False: "false"}.get(value, "") if isinstance(value, (bool, type(None))) else ""
    text = text or repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _config_from_hf(data: Mapping[str, Any], where: str) -> DecoderConfig:
    model_type = data.get("model_type")
    family = _FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None or not isinstance(model_type, str):
        known = ", ".join([*_FAMILIES, "gemma3"])
        raise ConfigError(f"{where}: model_type is {_short(model_type)}, expected one of {known}.")
    used = {*_COMMON_KEYS, *family.defaults, family.activation_key[0]}
    for key, value in data.items():
        if key not in used:
            _check_unused(key, value, model_type, where)
    fields = _sizes(data, family) | family.traits
    window, layer_types = _attention(data, family, fields["num_hidden_layers"], where)
    ropes = _ropes(data, family, where)
    bos, eos, pad = (data.get(key, default) for key, default in zip(_TOKEN_IDS, family.token_ids, strict=True))
    fields |= {
        "layer_types": layer_types,
        "sliding_window": window,
        "rope_parameters": tuple((kind, ropes[kind]) for kind in LAYER_TYPES if kind in layer_types),
        "query_pre_attn_scalar": _number(data, "query_pre_attn_scalar", fields["head_dim"], where)
        if "query_pre_attn_scalar" in family.defaults
        else fields["head_dim"],
        "rms_norm_eps": _number(data, "rms_norm_eps", 1e-6, where),
        "hidden_activation": _activation(data, family),
        "tie_word_embeddings": _flag(data, "tie_word_embeddings", family.defaults["tie_word_embeddings"], where),
        "bos_token_id": _token_id(bos, "bos_token_id", where),
        "pad_token_id": _token_id(pad, "pad_token_id", where),
        "eos_token_ids": _token_ids(eos, where),
        "model_type": model_type,
    }
    for cap in ("attn_logit_softcapping", "final_logit_softcapping"):
        value = data.get(cap, family.defaults.get(cap))
        fields[cap] = None if value is None else _number(data, cap, value, where)
    try:
        return DecoderConfig(**fields)
    except ConfigError as problem:
        raise ConfigError(str(problem).replace("config:", f"{where}:", 1)) from None


def _sizes(data: Mapping[str, Any], family: _Family) -> dict[str, Any]:
    """The whole-number sizes; DecoderConfig checks them."""
    sizes = {name: data.get(name, default) for name, default in zip(_SIZES, family.sizes, strict=True)}
    width, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    if sizes["num_key_value_heads"] is None:
        sizes["num_key_value_heads"] = heads
    if sizes["head_dim"] is None and isinstance(width, int) and isinstance(heads, int) and heads:
        sizes["head_dim"] = width // heads
    return sizes


def _attention(
    data: Mapping[str, Any], family: _Family, num_layers: Any, where: str
) -> tuple[int | None, tuple[str, ...]]:
    """Sliding window and layer types."""
    if not isinstance(num_layers, int) or num_layers > 10_000:
        raise ConfigError(f"{where}: num_hidden_layers is {_short(num_layers)}, expected a number of layers.")
    window = data.get("sliding_window", family.defaults.get("sliding_window"))
    if window is not None and (isinstance(window, bool) or not isinstance(window, int)):
        raise ConfigError(f"{where}: sliding_window is {_short(window)}, expected a number of tokens or null.")
    early_window = data.get("sliding_window_size", window)
    if early_window != window:
        raise ConfigError(f"{where}: sliding_window_size is {_short(early_window)}, but sliding_window is {window}.")
    if "layer_types" not in family.defaults:
        sliding = "sliding_window" in family.defaults and window is not None
        return (window if sliding else None), ((SLIDING_ATTENTION if sliding else FULL_ATTENTION),) * num_layers
    layer_types = data.get("layer_types")
    if layer_types is None:
        period = data.get("sliding_window_pattern") or data.get("_sliding_window_pattern")
        period = period or (6 if "sliding_window_pattern" in family.defaults else 2)
        if not isinstance(period, int) or period < 1:
            raise ConfigError(f"{where}: sliding_window_pattern is {_short(period)}, expected a whole number above 0.")
        layer_types = periodic_layer_types(num_layers, period)
    if not isinstance(layer_types, (list, tuple)) or not all(isinstance(kind, str) for kind in layer_types):
        known = ", ".join(LAYER_TYPES)
        raise ConfigError(f"{where}: layer_types is {_short(layer_types)}, expected a list of {known}.")
    return (window if SLIDING_ATTENTION in layer_types else None), tuple(layer_types)


def _ropes(data: Mapping[str, Any], family: _Family, where: str) -> dict[str, RopeParameters]:
    """Rotary parameters of both kinds of layer."""
    scaling, parameters = data.get("rope_scaling"), data.get("rope_parameters")
    if scaling and parameters:
        raise ConfigError(f"{where}: has both rope_scaling and rope_parameters. Keep rope_parameters, the newer form.")
    for key, value in (("rope_scaling", scaling), ("rope_parameters", parameters)):
        if value is not None and not isinstance(value, Mapping):
            raise ConfigError(f"{where}: {key} is {_short(value)}, expected an object.")
    theta = _number(data, "rope_theta", family.theta, where)
    local_theta = theta
    if family.local_theta is not None:
        local_theta = _number(data, "rope_local_base_freq", family.local_theta, where)
    if parameters and set(parameters) & set(LAYER_TYPES):
        extra = sorted(set(parameters) - set(LAYER_TYPES))
        if extra:
            raise ConfigError(f"{where}: rope_parameters has the key {extra[0]!r} beside its layer types.")
        bases = {FULL_ATTENTION: theta, SLIDING_ATTENTION: local_theta}
        return {kind: _rope(parameters.get(kind), bases[kind], f"{where}: rope_parameters") for kind in LAYER_TYPES}
    if parameters and family.local_theta is not None:
        raise ConfigError(
            f"{where}: rope_parameters is {_short(dict(parameters))}, expected one entry for each of "
            f"{', '.join(LAYER_TYPES)}: they have bases of their own."
        )
    full = _rope(scaling or parameters, theta, f"{where}: {'rope_scaling' if scaling else 'rope_parameters'}")
    sliding = full if family.local_theta is None else RopeParameters(local_theta)
    return {FULL_ATTENTION: full, SLIDING_ATTENTION: sliding}


def _rope(parameters: Any, theta: float, where: str) -> RopeParameters:
    """One set of rotary parameters, from an object such as {"rope_type": "linear", "factor": 8.0}."""
    if parameters is None:
        return RopeParameters(theta)
    if not isinstance(parameters, Mapping):
        raise ConfigError(f"{where} has {_short(parameters)} for a layer type, expected an object.")
    kind = parameters.get("rope_type", parameters.get("type")) or "default"
    if kind not in ("default", "linear"):
        raise ConfigError(f"{where}: rope type {_short(kind)} is not supported, expected 'default' or 'linear'.")
    for key in sorted(set(parameters) - {"rope_type", "type", "rope_theta", "factor"}):
        if key != "partial_rotary_factor" or parameters[key] not in _NEUTRAL_VALUES[key]:
            raise ConfigError(f"{where}: {key} is {_short(parameters[key])}; this key is not supported there.")
    factor = _number(parameters, "factor", 1.0, where)
    if kind == "default" and factor != 1.0:
        raise ConfigError(f"{where}: factor is {factor}, but rope type 'default' has none. Did you mean 'linear'?")
    return RopeParameters(_number(parameters, "rope_theta", theta, where), factor)


def _activation(data: Mapping[str, Any], family: _Family) -> Any:
    """The gate's activation; DecoderConfig checks it."""
    key, default = family.activation_key
    value = data.get(key) or default
    # The first Gemma 1 files say "gelu" and mean its tanh form; transformers reads them so.
    is_early_gemma = family.architecture == "GemmaForCausalLM" and value == "gelu"
    return "gelu_pytorch_tanh" if is_early_gemma else value


def _number(data: Mapping[str, Any], key: str, default: float, where: str) -> float:
    """A finite number, `default` where the key is missing or null."""
    value = data.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"{where}: {key} is {_short(value)}, expected a number.")
    return float(value)


def _flag(data: Mapping[str, Any], key: str, default: bool, where: str) -> bool:
    value = data.get(key, default)
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: {key} is {_short(value)}, expected true or false.")
    return value


def _token_id(value: Any, key: str, where: str) -> int | None:
    """An id; the -1 of early files means none."""
    if value is None or value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{where}: {key} is {_short(value)}, expected a token id or null.")
    return value


def _token_ids(value: Any, where: str) -> tuple[int, ...]:
    """One id, a list of them, or none."""
    values = value if isinstance(value, (list, tuple)) else [value]
    ids = (_token_id(entry, "eos_token_id", where) for entry in values)
    return tuple(token_id for token_id in ids if token_id is not None)


def config_to_hf(config: DecoderConfig) -> dict[str, Any]:
    """The config.json of a decoder, in keys that transformers 4 and 5 both read.

    Raises:
        ConfigError: the family's config.json has no words for one of the fields.
    """
    family = _FAMILIES.get(config.model_type)
    if family is None:
        raise ConfigError(f"config: model_type is {config.model_type!r}, expected one of {', '.join(_FAMILIES)}.")
    data: dict[str, Any] = {"architectures": [family.architecture], "model_type": config.model_type}
    data |= {name: getattr(config, name) for name in _SIZES}
    data |= {"rms_norm_eps": config.rms_norm_eps, "tie_word_embeddings": config.tie_word_embeddings}
    data |= {"bos_token_id": config.bos_token_id, "pad_token_id": config.pad_token_id}
    eos = config.eos_token_ids
    data["eos_token_id"] = list(eos) if len(eos) > 1 else (eos[0] if eos else None)
    data[family.activation_key[0]] = config.hidden_activation
    for key in ("sliding_window", "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"):
        if key in family.defaults:
            value = getattr(config, key)
            is_whole = key == "query_pre_attn_scalar" and float(value).is_integer()
            data[key] = int(value) if is_whole else value  # transformers 5 takes no other number here
    if "layer_types" in family.defaults:
        data["layer_types"] = list(config.layer_types)
    if "sliding_window_pattern" in family.defaults:
        num_layers = config.num_hidden_layers
        periods = (n for n in range(1, num_layers + 1) if periodic_layer_types(num_layers, n) == config.layer_types)
        if period := next(periods, None):
            data["sliding_window_pattern"] = period
    ropes = dict(config.rope_parameters)
    full = ropes.get(FULL_ATTENTION) or RopeParameters(family.theta)
    if family.local_theta is None:
        full = config.rope_parameters[0][1]
    elif SLIDING_ATTENTION in ropes:
        data["rope_local_base_freq"] = ropes[SLIDING_ATTENTION].rope_theta
    data["rope_theta"] = full.rope_theta
    data["rope_scaling"] = None if full.factor == 1.0 else {"rope_type": "linear", "factor": full.factor}
    _check_expressible(config, data)
    return data


def _check_expressible(config: DecoderConfig, data: dict[str, Any]) -> None:
    """Refuse to write a config.json that would be read as another decoder."""
    read_back = config_from_hf(data, "config.json")
    for field in dataclasses.fields(config):
        wanted, written = getattr(config, field.name), getattr(read_back, field.name)
        if wanted != written:
            raise ConfigError(
                f"config: {field.name} is {_short(wanted)}, but a config.json of model_type {config.model_type!r} "
                f"can only say {_short(written)}. Choose the model_type that has it."
            )
