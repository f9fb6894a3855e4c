"""What a GGUF file says besides its tensors: where it comes from, the decoder, the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gemcut.checkpoint.checkpoint import GGUF_SAMPLING, Checkpoint
from gemcut.config import config_to_gguf
from gemcut.errors import ConfigError
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
_OTHER_END_KEYS = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")  # end of a turn, of a message


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
        ConfigError: GGUF has no words for the configuration, or no key for one of the ids that end an answer.
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
    return metadata | tokenizer_to_gguf(tokenizer, config.vocab_size) | _other_ends(checkpoint, tokenizer)


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


def _other_ends(checkpoint: Checkpoint, tokenizer: Tokenizer) -> dict[str, int]:
    """The ids that end a turn or hand over to a tool: those that end an answer besides the end of the text."""
    listed = checkpoint.generation_config.get("eos_token_id")
    listed = listed if isinstance(listed, list) else [listed]
    ends = dict.fromkeys((*checkpoint.config.eos_token_ids, *listed))
    others = [token_id for token_id in ends if token_id not in (None, tokenizer.eos_token_id)]
    if len(others) > len(_OTHER_END_KEYS):
        raise ConfigError(
            f"eos_token_id: {others} end an answer besides {tokenizer.eos_token_id}, expected at most "
            f"{len(_OTHER_END_KEYS)} ids, for which GGUF has keys. Leave one out of the generation config."
        )
    return dict(zip(_OTHER_END_KEYS, others, strict=False))
