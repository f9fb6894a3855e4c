"""A checkpoint opened by the C++ engine: GGUF, or safetensors as Hugging Face has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from gemcut.config import DecoderConfig, RopeParameters
from gemcut.config.decoder import LAYER_TYPES
from gemcut.engine.extension import native


class NativeCheckpoint:
    """A model's files, opened and checked by the engine; no weight is read yet.

    A context manager; closing it lets go of the files.

    Args:
        path: A GGUF file, a safetensors file, or a folder.

    Attributes:
        path: The file or folder.
        config: The decoder.
        metadata: Key to value: a GGUF file's short keys, or those of config.json.

    Raises:
        NotFoundError, CheckpointError, ConfigError, TokenizerError: as the engine says.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._handle: Any = native().Checkpoint(str(path))
        self.config = decoder_config(self._handle.config_json)
        self.metadata: Mapping[str, Any] = {key: json.loads(value) for key, value in self._handle.metadata}

    @property
    def handle(self) -> Any:
        """The C++ object."""
        assert self._handle is not None, "the checkpoint was closed"
        return self._handle

    @property
    def has_vocabulary(self) -> bool:
        """Whether the engine can make the tokenizer."""
        return bool(self.handle.has_vocabulary)

    @property
    def weights_bytes(self) -> int:
        """Size of the decoder's tensors in the files."""
        return sum(tensor.num_bytes for tensor in self.handle.tensors)

    @property
    def is_gguf(self) -> bool:
        """Whether it is a GGUF file, which holds its own tokenizer."""
        return "general.architecture" in self.metadata

    @property
    def gguf_metadata(self) -> Mapping[str, Any] | None:
        """A GGUF file's short keys; None for other formats."""
        return self.metadata if self.is_gguf else None

    def close(self) -> None:
        """Let go of the files."""
        self._handle = None

    def __enter__(self) -> NativeCheckpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def decoder_config(text: str) -> DecoderConfig:
    """The configuration in the engine's JSON: the fields of `DecoderConfig` by name."""
    fields = json.loads(text)
    ropes = fields.pop("rope_parameters")
    kinds = [kind for kind in LAYER_TYPES if kind in ropes]
    for name in ("layer_types", "eos_token_ids"):
        fields[name] = tuple(fields[name])
    return DecoderConfig(rope_parameters=tuple((kind, RopeParameters(**ropes[kind])) for kind in kinds), **fields)
