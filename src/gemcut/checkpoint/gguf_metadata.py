"""What a GGUF file says besides its tensors: where it comes from, the decoder, the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gemcut.checkpoint.checkpoint import GGUF_SAMPLING, Checkpoint
from gemcut.config import config_to_gguf
from gemcut.text import Tokenizer, tokenizer_to_gguf

# What describes how a file's tensors lie in it, and so holds for that file only.
_OF_THE_FILE = ("general.alignment", "general.file_type", "general.quantization_version", "split.")
# Number of a mix in general.file_type. Source: llama.cpp's public header, llama_ftype.
_FILE_TYPES = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q8_0": 7,
    "Q5_0": 8,
    "Q5_1": 9,
    "Q2_K": 10,
    "Q3_K_S": 11,
    "Q3_K_M": 12,
    "Q3_K_L": 13,
    "Q4_K_S": 14,
    "Q4_K_M": 15,
    "Q5_K_S": 16,
    "Q5_K_M": 17,
    "Q6_K": 18,
    "BF16": 32,
}
NO_VOCABULARY = "no_vocab"  # llama.cpp's tokenizer.ggml.model of a file that takes token ids only
_QUANTIZATION_VERSION = 2  # of ggml's block formats


def gguf_metadata(
    checkpoint: Checkpoint,
    tokenizer: Tokenizer | None,
    types: Mapping[str, str],
    *,
    kind: str | None,
    general: Mapping[str, Any],
) -> dict[str, Any]:
    """All keys of the file that a checkpoint becomes.

    Args:
        checkpoint: The source; what a GGUF file says of itself and its vocabulary is taken over.
        tokenizer: The vocabulary of another format; None where there is none.
        types: Of the tensors.
        kind: The mix that was asked for, or None.
        general: Keys of name, licence and changes; they win over the source's.

    Raises:
        ConfigError: GGUF has no words for the configuration.
    """
    config = checkpoint.config
    architecture = config_to_gguf(config)
    source = checkpoint.gguf_metadata or {}
    kept = {key: value for key, value in source.items() if key.startswith("general.")}
    metadata: dict[str, Any] = {"general.architecture": architecture["general.architecture"], "general.type": "model"}
    metadata |= {key: value for key, value in (kept | dict(general)).items() if not key.startswith(_OF_THE_FILE)}
    metadata |= architecture
    metadata |= {"general.file_type": _file_type(kind, types), "general.quantization_version": _QUANTIZATION_VERSION}
    metadata |= _sampling(checkpoint.generation_config)
    vocabulary = {key: value for key, value in source.items() if key.startswith("tokenizer.")}
    if vocabulary.get("tokenizer.ggml.model") not in (None, NO_VOCABULARY):
        return metadata | vocabulary
    if tokenizer is None:
        return metadata | vocabulary | {"tokenizer.ggml.model": NO_VOCABULARY}
    return metadata | tokenizer_to_gguf(tokenizer, config.vocab_size) | _end_of_turn(checkpoint, tokenizer)


def _file_type(kind: str | None, types: Mapping[str, str]) -> int:
    """The mix's number, or that of the type that most matrices have."""
    if kind in _FILE_TYPES:
        return _FILE_TYPES[kind]
    names = list(types.values())
    matrices = [name for name in names if name != "F32"] or ["F32"]
    most = max(set(matrices), key=matrices.count)
    return _FILE_TYPES.get(most, _FILE_TYPES.get(f"{most}_M", 0))


def _sampling(generation_config: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint's own sampling settings under GGUF's names."""
    found = {ours: generation_config.get(theirs) for ours, theirs in GGUF_SAMPLING.items()}
    return {f"general.sampling.{name}": value for name, value in found.items() if value is not None}


def _end_of_turn(checkpoint: Checkpoint, tokenizer: Tokenizer) -> dict[str, int]:
    """The id that ends a turn, where it is another than the one that ends the text."""
    listed = checkpoint.generation_config.get("eos_token_id")
    listed = listed if isinstance(listed, list) else [listed]
    for token_id in (*checkpoint.config.eos_token_ids, *listed):
        if token_id not in (None, tokenizer.eos_token_id):
            return {"tokenizer.ggml.eot_token_id": token_id}
    return {}
