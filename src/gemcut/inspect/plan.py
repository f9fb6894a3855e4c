"""Whether a model fits a device, what takes its memory, how fast it can be there, and what that costs."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from gemcut.checkpoint import open_checkpoint
from gemcut.config import PUBLISHED, DecoderConfig
from gemcut.config.parameters import num_parameters, parameter_shapes
from gemcut.errors import ContextLengthError, NotFoundError, UsageError
from gemcut.hub import parse_reference, resolve
from gemcut.inspect.hardware import Hardware, hardware_named, this_machine
from gemcut.inspect.memory_parts import answering_parts, tuning_parts
from gemcut.inspect.roofline import decode_seconds, prefill_seconds, train_seconds
from gemcut.inspect.stored_weights import StoredWeights
from gemcut.quantize.mix import tensor_types

TUNINGS = ("lora", "full")
PROMPT_TOKENS = 512  # prefilled, and in the cache while decoding is reckoned: what `gemcut bench` measures
DEFAULT_CONTEXT = 8192
TRAIN_TOKENS = 2048  # of one sequence


def plan(
    reference: str | os.PathLike[str],
    *,
    on: str | None = None,
    hardware_file: str | os.PathLike[str] | None = None,
    context: int | None = None,
    tune: str | None = None,
    batch: int = 1,
    type: str | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """What running or tuning a model would take, before anything is loaded or bought.

    Args:
        reference: A model reference; a published name needs no files.
        on: A device of the hardware file; None for this machine, which is measured.
        hardware_file: TOML with devices of the user's own; None for what GEMCUT_HARDWARE names, if anything.
        context: Tokens of a sequence; None for DEFAULT_CONTEXT, TRAIN_TOKENS with `tune`, or the model's own if less.
        tune: None for answering; "lora" or "full" for training.
        batch: Sequences at once.
        type: How the weights are stored, as `gemcut convert --type` takes it; None for what the files have, or BF16.
        threads: CPU threads on this machine; None for every core.

    Returns:
        A JSON-able dict: model, hardware, context, batch, tune, memory (bytes by part), total_bytes, fits, free_bytes,
        largest_context (that fits; 0 for none), speed (tokens/s, summed over the batch), cost (None without a price).

    Raises:
        UsageError: an option is out of range.
        ContextLengthError: the model's context is shorter than `context`.
        NotFoundError: the model, the device or the file is not there.
        CheckpointError, ConfigError, DataError: a file is damaged.
        MissingExtraError: this machine cannot be measured without the C++ engine.
    """
    if batch < 1:
        raise UsageError(f"batch is {batch}, expected at least 1.")
    if tune not in (None, *TUNINGS):
        raise UsageError(f"tune is {tune!r}, expected one of {', '.join(TUNINGS)}.")
    config, types = _types(reference, type)
    length = _context(config, context, tune)
    hardware = this_machine(threads) if on is None else hardware_named(on, hardware_file)
    weights = StoredWeights(config, types, packed=hardware.is_measured)

    def parts(tokens: int) -> dict[str, int]:
        if tune:
            return tuning_parts(config, hardware, tokens, batch, tune)
        return answering_parts(weights, hardware, tokens, batch)

    memory = parts(length)
    total = sum(memory.values())
    speed = _tuning_speed(weights, hardware, length, batch, tune) if tune else _speed(weights, hardware, length, batch)
    return {
        "model": {
            "reference": os.fspath(reference),
            "parameters": num_parameters(config),
            "types": weights.in_words(),
            "bytes_per_token": weights.bytes_per_token,
        },
        "hardware": dataclasses.asdict(hardware),
        "context": length,
        "batch": batch,
        "tune": tune,
        "memory": memory,
        "total_bytes": total,
        "free_bytes": hardware.memory_bytes - total,
        "fits": total <= hardware.memory_bytes,
        "largest_context": _largest(config, lambda tokens: sum(parts(tokens).values()) <= hardware.memory_bytes),
        "speed": speed,
        "cost": _cost(hardware, speed),
    }


def _types(reference: str | os.PathLike[str], kind: str | None) -> tuple[DecoderConfig, dict[str, str]]:
    """The decoder and the stored type of each tensor: as asked for, as the files have it, or as it was published."""
    parsed = parse_reference(reference)
    try:
        path = resolve(parsed)
    except NotFoundError:
        if parsed.kind != "published":
            raise
        config = PUBLISHED[parsed.name].config
        shapes = parameter_shapes(config)
        return config, tensor_types(config, shapes, kind) if kind else dict.fromkeys(shapes, "BF16")
    with open_checkpoint(path) as checkpoint:
        config = checkpoint.config
        if kind is not None:
            return config, tensor_types(config, parameter_shapes(config), kind)
        return config, {name: tensor.stored_type for name, tensor in checkpoint.tensors.items()}


def _context(config: DecoderConfig, context: int | None, tune: str | None) -> int:
    limit = config.max_position_embeddings
    if context is None:
        return min(TRAIN_TOKENS if tune else DEFAULT_CONTEXT, limit)
    if context < 1:
        raise UsageError(f"context is {context}, expected at least 1 token.")
    if context > limit:
        raise ContextLengthError(f"context is {context}, but the model's context is {limit} tokens.")
    return context


def _speed(weights: StoredWeights, hardware: Hardware, context: int, batch: int) -> dict[str, Any]:
    prompt = min(PROMPT_TOKENS, context)
    prefill = prefill_seconds(weights, hardware, prompt)
    return {
        "prompt_tokens": prompt,
        "prefill_tokens_per_second": prompt / prefill if prefill else None,
        "decode_tokens_per_second": batch / decode_seconds(weights, hardware, prompt, batch),
        "decode_tokens_per_second_at_full_context": batch / decode_seconds(weights, hardware, context, batch),
    }


def _tuning_speed(weights: StoredWeights, hardware: Hardware, tokens: int, batch: int, tune: str) -> dict[str, Any]:
    seconds = train_seconds(weights, hardware, tokens, tune)
    return {"train_tokens_per_second": tokens / seconds if seconds else None, "step_tokens": batch * tokens}


def _largest(config: DecoderConfig, fits: Any) -> int:
    """The largest context that fits, by bisection: memory never falls as the context grows."""
    low, high = 0, config.max_position_embeddings
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _cost(hardware: Hardware, speed: dict[str, Any]) -> dict[str, Any] | None:
    """US dollars an hour and for a million tokens of each kind; None without a dated price."""
    if hardware.price_per_hour is None:
        return None
    per_million = {
        name.removesuffix("_tokens_per_second"): hardware.price_per_hour / 3600 / rate * 1e6
        for name, rate in speed.items()
        if name.endswith("_tokens_per_second") and rate
    }
    return {
        "per_hour": hardware.price_per_hour,
        "per_million_tokens": per_million,
        "source": hardware.price_source,
        "date": hardware.price_date,
    }
