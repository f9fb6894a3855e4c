"""Opening a checkpoint of any format: what it is, what it holds, and whether it fits its configuration."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from gemcut.checkpoint.gguf_file import MAGIC as GGUF_MAGIC
from gemcut.checkpoint.gguf_file import read_gguf, split_files
from gemcut.checkpoint.lazy_tensor import LazyTensor
from gemcut.checkpoint.names import Placement, is_gemma_torch, place_tensors
from gemcut.checkpoint.recognise import describe_file, describe_folder, describe_zip
from gemcut.checkpoint.safetensors_file import MAX_HEADER_BYTES, index_files, read_safetensors, read_sharded
from gemcut.checkpoint.stored import StoredTensor
from gemcut.checkpoint.torch_file import PICKLE_MAGIC, ZIP_MAGIC, read_torch
from gemcut.config import PUBLISHED, DecoderConfig, config_from_gguf, config_from_hf
from gemcut.config.parameters import EMBEDDING, OUTPUT_HEAD, parameter_shapes
from gemcut.errors import CheckpointError, ConfigError, NotFoundError
from gemcut.files import file_bytes, read_json
from gemcut.quantize import READABLE_TYPES, type_named

# Published files pad the vocabulary by 64 rows (Gemma 3 with vision) or 128 (Gemma 1 and 2 from Flax).
MAX_PADDING_ROWS = 128
_CONFIG, _GENERATION_CONFIG = "config.json", "generation_config.json"
_SHARD_NAME = re.compile(r"(?P<stem>.+)-\d{5}-of-\d{5}(?P<suffix>\.safetensors|\.bin)")
_PLAIN_TYPES = frozenset(["F32", "F16", "BF16"])
# Sampling settings in a GGUF file's keys, and in the words of generation_config.json.
GGUF_SAMPLING = {"temp": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}


@dataclasses.dataclass
class Checkpoint:
    """A model's files, opened: the configuration and every tensor of the decoder, none of them read yet.

    A context manager; closing it lets go of the files.

    Attributes:
        path: The file or folder that was opened.
        format: "hf" (safetensors), "gguf" or "torch".
        config: The decoder.
        tensors: Each tensor under our name (config/parameters.py), in that order.
        unused: (name in the file, reason) of everything that the decoder does not need.
        generation_config: The checkpoint's own sampling settings; empty where it has none.
        gguf_metadata: All keys of a GGUF file, the tokenizer's included; None for other formats.
        tokenizer_files: The folder where a tokenizer's files lie; None for a GGUF file, which holds its own.
    """

    path: Path
    format: str
    config: DecoderConfig
    tensors: Mapping[str, LazyTensor]
    unused: list[tuple[str, str]]
    generation_config: dict[str, Any]
    gguf_metadata: dict[str, Any] | None = None
    tokenizer_files: Path | None = None

    @property
    def quantized(self) -> bool:
        """Whether any tensor is stored in less than 16-bit floats."""
        return any(tensor.stored_type not in _PLAIN_TYPES for tensor in self.tensors.values())

    def close(self) -> None:
        """Forget the tensors; the files are unmapped when the last array that was read from them goes."""
        self.tensors = MappingProxyType({})

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_checkpoint(path: str | Path, config: DecoderConfig | None = None) -> Checkpoint:
    """Open a model's weights, recognised by content: a file, or the folder that holds them.

    Everything is checked before a weight is read: each tensor of the decoder is there once with its shape and in a
    type that can be read, and each tensor of the files is used or known not to be needed.

    Args:
        path: A safetensors, GGUF or torch file (any part of a split one), an index, or a folder with one of them.
        config: The decoder, instead of what config.json or the GGUF file says.

    Raises:
        NotFoundError: the path, a part or config.json is missing.
        CheckpointError: the files are damaged, of an unknown format, or do not fit the configuration.
        ConfigError: the configuration is not supported.
    """
    path = Path(path)
    weights = _find_weights(path) if path.is_dir() else _index_of(path)
    kind = _recognise(weights)
    if kind == "gguf":
        metadata, stored = read_gguf(weights)
        shapes = {name: tensor.shape for name, tensor in stored.items()}
        decoder = config or config_from_gguf(metadata, weights.name, shapes)
        tensors, unused = _match(stored, "gguf", decoder, weights.name)
        return Checkpoint(path, kind, decoder, tensors, unused, gguf_sampling(metadata), gguf_metadata=metadata)
    others: list[str] = []
    if kind == "hf":
        stored = read_sharded(weights, read_safetensors) if weights.suffix == ".json" else read_safetensors(weights)
    else:
        stored, others = _read_torch(weights)
    naming = "gemma_torch" if is_gemma_torch(stored) else "hf"
    decoder = config or _config_beside(weights, stored, naming)
    tensors, unused = _match(stored, naming, decoder, weights.name)
    unused += [(name, "not a tensor") for name in others]
    folder = weights.parent
    return Checkpoint(path, kind, decoder, tensors, unused, read_generation_config(folder), tokenizer_files=folder)


def _find_weights(folder: Path) -> Path:
    """The file that leads to a folder's weights; safetensors before torch before GGUF."""
    try:
        files = sorted(entry for entry in folder.iterdir() if entry.is_file())
    except OSError as problem:
        raise CheckpointError(f"{folder}: cannot be read ({problem.strerror}). Check its permissions.") from None
    # Mistral's folders hold the same weights a second time, as consolidated.*; a mmproj file is a vision projector.
    others = ("consolidated", "adapter_model")
    names = [file for file in files if not file.name.startswith(others) and "mmproj" not in file.name]
    for suffix in (".safetensors.index.json", ".safetensors", ".bin.index.json", ".bin", ".gguf", ".ckpt"):
        found = [file for file in names if file.name.endswith(suffix) and file.name != "training_args.bin"]
        first_parts = {split_files(file)[0]: None for file in found}
        if len(first_parts) > 1:
            listed = ", ".join(file.name for file in list(first_parts)[:5])
            raise CheckpointError(
                f"{folder}: has {len(first_parts)} checkpoints ({listed}), expected one. Name the file."
            )
        if first_parts:
            return next(iter(first_parts))
    if described := describe_folder(folder):
        raise CheckpointError(f"{folder}: {described}")
    raise NotFoundError(
        f"{folder}: holds no weights, expected model.safetensors, model.safetensors.index.json, pytorch_model.bin or "
        "one .gguf file. Download the model's files into it."
    )


def weights_format(path: Path) -> str:
    """Format of a file, or of the weights in a folder: "hf" (safetensors), "gguf" or "torch".

    Raises:
        NotFoundError, CheckpointError: as `open_checkpoint`.
    """
    return _recognise(_find_weights(path) if path.is_dir() else _index_of(path))


def _index_of(path: Path) -> Path:
    """The index that a shard belongs to, if there is one beside it; else the file itself."""
    match = _SHARD_NAME.fullmatch(path.name)
    index = path.with_name(f"{match['stem']}{match['suffix']}.index.json") if match else path
    return index if index.exists() else path


def _recognise(path: Path) -> str:
    """Format of a file by its first bytes: "hf", "gguf" or "torch"."""
    num_bytes = file_bytes(path)
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError as problem:
        raise CheckpointError(f"{path}: cannot be read ({problem.strerror}). Check its permissions.") from None
    if start.startswith(GGUF_MAGIC):
        return "gguf"
    # Before torch, as the length that safetensors begins with can look like a pickle's first byte.
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER_BYTES:
        return "hf"
    if start.startswith((ZIP_MAGIC, PICKLE_MAGIC)):
        if described := describe_zip(path):
            raise CheckpointError(f"{path}: {described}")
        return "torch"
    if path.name.endswith(".index.json"):
        return "torch" if any(name.endswith(".bin") for name in index_files(path).values()) else "hf"
    # The name counts for damaged files, so that the message can say what is wrong with them.
    if path.suffix in (".safetensors", ".gguf"):
        return "hf" if path.suffix == ".safetensors" else "gguf"
    found = describe_file(path) or f"begins with {start[:8]!r} ({num_bytes} bytes). This is no model's weights."
    raise CheckpointError(f"{path}: {found} Expected safetensors, GGUF or a torch zip file.")


def _read_torch(path: Path) -> tuple[dict[str, StoredTensor], list[str]]:
    if path.suffix != ".json":
        return read_torch(path)
    others: list[str] = []

    def read_part(part: Path) -> dict[str, StoredTensor]:
        tensors, rest = read_torch(part)
        others.extend(rest)
        return tensors

    return read_sharded(path, read_part), others


def _config_beside(weights: Path, stored: Mapping[str, StoredTensor], naming: str) -> DecoderConfig:
    """The configuration in the weights' folder; Google's .ckpt files have none in JSON, their shapes tell."""
    file = weights.parent / _CONFIG
    if naming == "gemma_torch":
        for model in PUBLISHED.values():
            if not _misfits(stored, naming, model.config, weights.name):
                return model.config
        raise ConfigError(
            f"{weights.name}: its shapes are those of no published Gemma. Pass the config that came with these weights."
        )
    if not file.exists():
        raise NotFoundError(f"{file}: no such file, expected the configuration of {weights.name}. Get it from there.")
    return config_from_hf(read_json(file, error=ConfigError), str(file))


def _misfits(stored: Mapping[str, StoredTensor], naming: str, config: DecoderConfig, where: str) -> bool:
    try:
        _match(stored, naming, config, where)
    except CheckpointError:
        return True
    return False


def read_generation_config(folder: Path) -> dict[str, Any]:
    """The sampling settings beside Hugging Face's weights; empty where there are none.

    Raises:
        ConfigError: generation_config.json is damaged.
    """
    file = folder / _GENERATION_CONFIG
    if not file.exists():
        return {}
    data = read_json(file, error=ConfigError)
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: is a {type(data).__name__}, expected a JSON object.")
    return data


def gguf_sampling(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling settings of a GGUF file in the words of generation_config.json."""
    settings = {theirs: metadata.get(f"general.sampling.{ours}") for ours, theirs in GGUF_SAMPLING.items()}
    found: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    return found | {"do_sample": True} if found else {}


def _match(
    stored: Mapping[str, StoredTensor], naming: str, config: DecoderConfig, where: str
) -> tuple[Mapping[str, LazyTensor], list[tuple[str, str]]]:
    """Our tensors out of the stored ones, each checked."""
    placements, unused = place_tensors(stored, naming, config, where)
    shapes = parameter_shapes(config)
    tensors: dict[str, LazyTensor] = {}
    for name, place in placements.items():
        source = stored[place.source]
        _check_type(source)
        extra_rows = _check_shape(source, place, shapes[name], config)
        if extra_rows:
            last = source.shape[0] - 1
            unused.append((f"{source.name}[{config.vocab_size}:{last + 1}]", "rows above vocab_size, padding"))
        tensors[name] = _lazy(source, place, shapes[name], config)
    return MappingProxyType(tensors), unused


def _check_type(source: StoredTensor) -> None:
    if source.stored_type not in READABLE_TYPES or source.raw is None:
        known = ", ".join(sorted(READABLE_TYPES))
        raise CheckpointError(
            f'{source.file}: "{source.name}" is stored as {source.stored_type}, expected one of {known}. '
            "Get the model in one of these types."
        )


def _symbols(name: str) -> str:
    """What the sizes of one of our tensors are, in the configuration's words."""
    heads, kv_heads = "num_attention_heads * head_dim", "num_key_value_heads * head_dim"
    table = {
        "q_norm.weight": "head_dim",
        "k_norm.weight": "head_dim",
        "q_proj.weight": f"{heads}, hidden_size",
        "k_proj.weight": f"{kv_heads}, hidden_size",
        "v_proj.weight": f"{kv_heads}, hidden_size",
        "o_proj.weight": f"hidden_size, {heads}",
        "gate_proj.weight": "intermediate_size, hidden_size",
        "up_proj.weight": "intermediate_size, hidden_size",
        "down_proj.weight": "hidden_size, intermediate_size",
    }
    if name in (EMBEDDING, OUTPUT_HEAD):
        return "vocab_size, hidden_size"
    return next((sizes for suffix, sizes in table.items() if name.endswith(suffix)), "hidden_size")


def _check_shape(source: StoredTensor, place: Placement, shape: tuple[int, ...], config: DecoderConfig) -> int:
    """Compare a stored shape with ours; the number of rows that pad a vocabulary."""
    if place.is_fused:
        kv_rows = config.num_key_value_heads * config.head_dim
        shape = (config.num_attention_heads * config.head_dim + 2 * kv_rows, config.hidden_size)
    if source.shape == shape:
        return 0
    if place.name in (EMBEDDING, OUTPUT_HEAD) and source.shape[1:] == shape[1:]:
        extra_rows = source.shape[0] - shape[0]
        if 0 < extra_rows <= MAX_PADDING_ROWS:
            return extra_rows
    symbols = "query, key and value rows, hidden_size" if place.is_fused else _symbols(place.name)
    raise CheckpointError(
        f'{source.file}: "{source.name}" is {source.shape}, expected {shape} = ({symbols}). '
        "Pass the config that came with these weights."
    )


def _lazy(source: StoredTensor, place: Placement, shape: tuple[int, ...], config: DecoderConfig) -> LazyTensor:
    """The stored rows that are one of our tensors."""
    assert source.raw is not None  # _check_type refused it
    ggml_type = type_named(source.stored_type)
    row_bytes = math.prod(shape[1:]) // ggml_type.block_values * ggml_type.block_bytes
    if len(shape) == 1:
        raw = source.raw
    else:
        raw = source.raw[place.first_row * row_bytes : (place.first_row + shape[0]) * row_bytes]
    return LazyTensor(
        place.name, source.name, source.file, shape, source.stored_type, raw, place.transform, config.head_dim
    )
