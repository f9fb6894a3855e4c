"""What a model is: architecture, parameters, file types, memory, tokenizer, licence."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gemcut.checkpoint import Checkpoint, open_checkpoint
from gemcut.config import PUBLISHED, DecoderConfig, PublishedModel, same_decoder
from gemcut.config.parameters import EMBEDDING, num_parameters, parameter_shapes
from gemcut.errors import NotFoundError, UsageError
from gemcut.hub import Reference, adapter_of, licence_of, parse_reference, resolve
from gemcut.inspect.licence import licence_facts

# Bytes of one number in each dtype that a model can be computed in.
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_CONTEXTS = (2048, 8192)
_TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def show(reference: str | os.PathLike[str], *, context: int | None = None) -> dict[str, Any]:
    """What `reference` is, from its files; from the table when a published model's files are not here.

    No weight is read.

    Args:
        reference: Any model reference.
        context: A cache size in tokens to reckon besides the usual ones.

    Returns:
        A JSON-able dict: reference, path and format (None without files), published (names of published models with
        the same decoder), architecture, parameters, types (of the file's tensors), memory, tokenizer, licence, hub,
        notes, unused (tensors of the file that text does not need, with reasons).

    Raises:
        UsageError: the reference is malformed, or `context` is below 1.
        NotFoundError: it is neither here nor published.
        CheckpointError, ConfigError: its files are damaged or not supported.
    """
    if context is not None and context < 1:
        raise UsageError(f"context is {context}, expected at least 1 token.")
    parsed = parse_reference(reference)
    known = PUBLISHED.get(parsed.name) if parsed.kind == "published" else None
    try:
        path = resolve(parsed)
    except NotFoundError:
        if known is None:
            raise
        return _describe(parsed, known.config, context, models=[known])
    with open_checkpoint(path) as checkpoint:
        models = [known] if known else same_decoder(checkpoint.config)
        described = _describe(parsed, checkpoint.config, context, models=models)
        described |= _describe_files(path, checkpoint)
    adapter = adapter_of(parsed)
    if adapter is not None:
        described["notes"].append(f"An adapter belongs to it: {adapter}")
    return described


def cache_bytes(config: DecoderConfig, num_tokens: int, dtype: str) -> int:
    """Bytes that keys and values of one sequence of `num_tokens` tokens take; sliding layers keep their window only."""
    slots = sum(min(config.window(index) or num_tokens, num_tokens) for index in range(config.num_hidden_layers))
    return 2 * slots * config.num_key_value_heads * config.head_dim * DTYPE_BYTES[dtype]


def _describe(
    reference: Reference, config: DecoderConfig, context: int | None, models: list[PublishedModel]
) -> dict[str, Any]:
    """What follows from the configuration and the table."""
    exact = models[0] if reference.kind == "published" else None
    hub = {"huggingface": exact.huggingface, "kaggle": exact.kaggle} if exact else None
    return {
        "reference": reference.text,
        "path": None,
        "format": None,
        "published": [model.name for model in models],
        "architecture": _architecture(config),
        "parameters": _parameters(config),
        "types": [],
        "memory": _memory(config, context),
        "tokenizer": None,
        "licence": licence_facts(exact.licence if exact else None),
        "hub": hub,
        "notes": [exact.notes] if exact and exact.notes else [],
        "unused": [],
    }


def _architecture(config: DecoderConfig) -> dict[str, Any]:
    """The configuration's numbers, layer types counted instead of listed."""
    counts = {kind: config.layer_types.count(kind) for kind in dict.fromkeys(config.layer_types)}
    ropes = dict(config.rope_parameters)
    return {
        "model_type": config.model_type,
        "num_hidden_layers": config.num_hidden_layers,
        "layer_types": counts if len(counts) > 1 else next(iter(counts)),
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_position_embeddings,
        "sliding_window": config.sliding_window,
        "rope_theta": {kind: ropes[kind].rope_theta for kind in counts},
        "rope_factor": {kind: ropes[kind].factor for kind in counts},
        "query_pre_attn_scalar": config.query_pre_attn_scalar,
        "hidden_activation": config.hidden_activation,
        "rms_norm_eps": config.rms_norm_eps,
        "tie_word_embeddings": config.tie_word_embeddings,
        "post_norms": config.post_norms,
        "qk_norm": config.qk_norm,
        "attn_logit_softcapping": config.attn_logit_softcapping,
        "final_logit_softcapping": config.final_logit_softcapping,
    }


def _parameters(config: DecoderConfig) -> dict[str, int]:
    rows, width = parameter_shapes(config)[EMBEDDING]
    total = num_parameters(config)
    return {"total": total, "embedding": rows * width, "without_embedding": total - rows * width}


def _memory(config: DecoderConfig, context: int | None) -> dict[str, Any]:
    """Bytes of the weights, and of one sequence's cache, in each dtype."""
    total = num_parameters(config)
    longest = config.max_position_embeddings
    contexts = sorted({min(tokens, longest) for tokens in (*_CONTEXTS, longest)} | ({context} if context else set()))
    return {
        "weights_bytes": {dtype: total * size for dtype, size in DTYPE_BYTES.items()},
        "cache": [
            {"context": tokens, "bytes": {dtype: cache_bytes(config, tokens, dtype) for dtype in DTYPE_BYTES}}
            for tokens in contexts
        ],
    }


def _describe_files(path: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """What only the files tell; their own word on the licence is the one that counts."""
    return {
        "path": str(path),
        "format": checkpoint.format,
        "types": _types(checkpoint.tensors.values()),
        "unused": [{"name": name, "reason": reason} for name, reason in checkpoint.unused],
        "tokenizer": _tokenizer(checkpoint),
        "licence": licence_facts(licence_of(path, checkpoint.gguf_metadata).licence),
    }


def _types(tensors: Iterable[Any]) -> list[dict[str, Any]]:
    """Number and bytes of the tensors of each stored type, the largest share first."""
    rows: dict[str, dict[str, Any]] = {}
    for tensor in tensors:
        row = rows.setdefault(tensor.stored_type, {"type": tensor.stored_type, "tensors": 0, "bytes": 0})
        row["tensors"] += 1
        row["bytes"] += tensor.stored_bytes
    total = sum(row["bytes"] for row in rows.values())
    ordered = sorted(rows.values(), key=lambda row: -row["bytes"])
    return [{**row, "share": row["bytes"] / total} for row in ordered]


def _tokenizer(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The vocabulary that lies in or beside the weights; None when there is none."""
    metadata: Mapping[str, Any] | None = checkpoint.gguf_metadata
    if metadata is not None:
        if "tokenizer.ggml.tokens" not in metadata:
            return None
        return {
            "source": "GGUF metadata",
            "kind": metadata.get("tokenizer.ggml.model"),
            "num_tokens": len(metadata["tokenizer.ggml.tokens"]),
            "chat_template": "tokenizer.chat_template" in metadata,
        }
    folder = checkpoint.tokenizer_files
    files = [name for name in _TOKENIZER_FILES if folder is not None and (folder / name).is_file()]
    return {"source": files} if files else None
