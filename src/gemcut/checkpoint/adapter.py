"""LoRA adapters in PEFT's files: read and checked against a base model, merged into it, written."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from gemcut.checkpoint.adapter_config import ADAPTER_CONFIG, AdapterConfig, read_adapter_config
from gemcut.checkpoint.checkpoint import Checkpoint
from gemcut.checkpoint.lazy_tensor import LazyTensor
from gemcut.checkpoint.names import place_hf
from gemcut.checkpoint.recoding import own_tensor
from gemcut.checkpoint.safetensors_file import read_safetensors
from gemcut.checkpoint.safetensors_writer import safetensors_header
from gemcut.checkpoint.stored import StoredTensor
from gemcut.checkpoint.torch_file import read_torch
from gemcut.config import PUBLISHED, DecoderConfig
from gemcut.config.parameters import parameter_shapes
from gemcut.config.published import PublishedModel, same_decoder
from gemcut.engine import NativeCheckpoint
from gemcut.errors import CheckpointError, NotFoundError
from gemcut.files import atomic_write_bytes, atomic_write_text, read_bytes
from gemcut.hub import licence_of
from gemcut.interfaces import LowRankUpdate
from gemcut.quantize import READABLE_TYPES

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_TEMPLATE = "chat_template.jinja"
_MAX_TEMPLATE_BYTES = 1 << 20
_TORCH_WEIGHTS = "adapter_model.bin"
_FACTOR = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
_ADAPTABLE = re.compile(r"model\.layers\.\d+\.(self_attn\.[qkvo]|mlp\.(gate|up|down))_proj")


@dataclasses.dataclass(frozen=True)
class Adapter:
    """A LoRA adapter that fits a base model.

    Attributes:
        updates: What it adds to each matrix, by our names (config/parameters.py), in the model's order.
        base: The base model as the adapter names it; None where it does not.
        prefix: What PEFT's names of modules begin with: "model.", or "model.language_model." where the base model
            has a vision tower.
        unused: (name in the file, reason) of what the decoder does not need.
    """

    updates: Mapping[str, LowRankUpdate]
    base: str | None = None
    prefix: str = "model."
    unused: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class _Factors:
    """The two matrices of one module, as they lie in the file."""

    module: str
    a: StoredTensor
    b: StoredTensor


def read_adapter(folder: str | os.PathLike[str], base: Checkpoint | NativeCheckpoint) -> Adapter:
    """Read an adapter as `peft` saves it: adapter_config.json, and adapter_model.safetensors or .bin.

    Args:
        folder: Where they lie.
        base: The model that it is for.

    Raises:
        NotFoundError: a file is missing.
        CheckpointError: a file is damaged, asks for more than LoRA of attention and feed-forward matrices, holds
            other tensors than its settings say, or belongs to another base model.
    """
    folder = Path(folder)
    settings = read_adapter_config(_in_folder(folder, ADAPTER_CONFIG))
    _check_base(settings, base)
    stored, others = _read_weights(folder)
    factors, unused = _by_our_names(stored, settings)
    prefix = _prefix(factors)
    _check_complete(factors, prefix, settings, base.config)
    shapes = parameter_shapes(base.config)
    return Adapter(
        MappingProxyType({name: _update(factors[name], name, shapes, settings) for name in shapes if name in factors}),
        settings.base,
        prefix,
        (*unused, *((name, "not a tensor") for name in others)),
    )


def merged(checkpoint: Checkpoint, adapter: Adapter) -> Checkpoint:
    """The checkpoint with W + scale * B A for each adapted matrix W, in float32, rounded to a type when it is read."""
    tensors = {
        name: dataclasses.replace(tensor, update=adapter.updates.get(name))
        for name, tensor in checkpoint.tensors.items()
    }
    return dataclasses.replace(checkpoint, tensors=MappingProxyType(tensors))


def adapter_template(folder: str | os.PathLike[str]) -> str | None:
    """The chat template that an adapter was trained with, beside its weights as transformers saves it.

    Returns:
        Its Jinja source; None where the adapter brings none.

    Raises:
        CheckpointError: the file cannot be read, or is no text.
    """
    path = Path(folder) / ADAPTER_TEMPLATE
    if not path.is_file():
        return None
    try:
        return read_bytes(path, _MAX_TEMPLATE_BYTES).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise CheckpointError(
            f"{path}: byte {problem.start + 1} is not UTF-8, expected a Jinja template. The file is damaged."
        ) from None


def write_adapter(folder: str | os.PathLike[str], adapter: Adapter, dtype: str = "float32") -> None:
    """Write an adapter as `peft` reads it: adapter_config.json and adapter_model.safetensors.

    Args:
        folder: Where to.
        adapter: The factors.
        dtype: "float32" or "bfloat16", of the file.

    Raises:
        GemcutError: the folder is missing or not writable, or the disk is full.
    """
    folder = Path(folder)
    factors = [
        own_tensor(
            f"base_model.model.{adapter.prefix}{_module_end(name)}.lora_{side}.weight", values, ADAPTER_WEIGHTS, dtype
        )
        for name, update in adapter.updates.items()
        for side, values in (("A", update.a), ("B", update.b))
    ]
    content = [safetensors_header(factors), *(factor.tensor.raw.tobytes() for factor in factors)]
    atomic_write_bytes(folder / ADAPTER_WEIGHTS, b"".join(content))
    # Last, because a folder without it holds no adapter.
    atomic_write_text(folder / ADAPTER_CONFIG, json.dumps(_settings(adapter), indent=2) + "\n")


def _in_folder(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise NotFoundError(
            f"{folder}: has no {name}, expected a folder as peft saves it, with {ADAPTER_CONFIG} and "
            f"{ADAPTER_WEIGHTS}. Name the adapter's folder."
        )
    return folder / name


def _published(name: str) -> PublishedModel | None:
    """The published model that a repository, or a folder named like it, holds."""
    last = name.rstrip("/").rpartition("/")[2].lower()
    found = (m for m in PUBLISHED.values() if last in (m.name, m.huggingface.rpartition("/")[2].lower()))
    return next(found, None)


def _check_base(settings: AdapterConfig, base: Checkpoint | NativeCheckpoint) -> None:
    """Refuse an adapter that names another published model than the one at hand."""
    wanted = _published(settings.base) if settings.base else None
    if wanted is None:
        return
    stated = licence_of(base.path, base.gguf_metadata).base
    present = _published(stated) if stated else None
    alike = same_decoder(base.config)
    if present in (None, wanted) and wanted in alike:
        return
    if present:
        found = f"this is {present.name}"
    else:
        found = f"this model has the shape of {alike[0].name}" if alike else "this model has another shape"
    raise CheckpointError(
        f"{settings.where}: the adapter was made for {settings.base}, but {found}. Name its own base model; if it is "
        "meant for this one, change base_model_name_or_path."
    )


def _read_weights(folder: Path) -> tuple[dict[str, StoredTensor], list[str]]:
    if not (folder / ADAPTER_WEIGHTS).is_file() and (folder / _TORCH_WEIGHTS).is_file():
        return read_torch(folder / _TORCH_WEIGHTS)
    return read_safetensors(_in_folder(folder, ADAPTER_WEIGHTS)), []


def _by_our_names(
    stored: Mapping[str, StoredTensor], settings: AdapterConfig
) -> tuple[dict[str, _Factors], list[tuple[str, str]]]:
    """Pairs of A and B under the names of the matrices that they change; and what the decoder does not need."""
    sides: dict[str, dict[str, StoredTensor]] = collections.defaultdict(dict)
    for name, tensor in stored.items():
        match = _FACTOR.fullmatch(name)
        if match is None:
            raise CheckpointError(
                f'{tensor.file}: "{name:.120}" is no factor of a LoRA matrix, expected names such as base_model.model.'
                "model.layers.0.self_attn.q_proj.lora_A.weight. Merge the adapter into its base model with peft."
            )
        sides[match[1]][match[2]] = tensor
    factors: dict[str, _Factors] = {}
    unused: list[tuple[str, str]] = []
    for module, pair in sides.items():
        one = next(iter(pair.values()))
        place = place_hf(f"{module}.weight")
        if isinstance(place, str):
            unused += [(tensor.name, place) for tensor in pair.values()]
            continue
        _check_pair(module, place.name, pair, settings)
        if place.name in factors:
            raise CheckpointError(
                f'{one.file}: "{module}" and "{factors[place.name].module}" are both {place.name}, expected one.'
            )
        factors[place.name] = _Factors(module, pair["A"], pair["B"])
    if not factors:
        raise CheckpointError(
            f"{settings.where}: the weights change nothing of a text decoder, expected factors of its matrices. "
            "The adapter is incomplete."
        )
    return factors, unused


def _check_pair(module: str, name: str, pair: Mapping[str, StoredTensor], settings: AdapterConfig) -> None:
    one = next(iter(pair.values()))
    if not _ADAPTABLE.fullmatch(name.removesuffix(".weight")):
        raise CheckpointError(
            f'{one.file}: "{one.name:.120}" changes {name}, expected attention and feed-forward matrices only. '
            "Merge the adapter into its base model with peft, and take the result."
        )
    if len(pair) < 2:
        lacking = "lora_B" if "A" in pair else "lora_A"
        raise CheckpointError(f'{one.file}: "{module}" has no {lacking}, expected both factors. The file is damaged.')
    if not settings.targets_module(module):
        raise CheckpointError(
            f'{one.file}: "{module}" is changed, but {settings.where} does not name it in target_modules. '
            "The two files do not belong together."
        )


def _prefix(factors: Mapping[str, _Factors]) -> str:
    """What comes before "layers." in the modules' names."""
    [module, *_] = (pair.module for pair in factors.values())
    return module[: module.index("layers.")]


def _check_complete(
    factors: Mapping[str, _Factors], prefix: str, settings: AdapterConfig, config: DecoderConfig
) -> None:
    """Refuse factors without a matrix, and matrices that should be changed but are not."""
    names = [name for name in parameter_shapes(config) if _ADAPTABLE.fullmatch(name.removesuffix(".weight"))]
    for name, pair in factors.items():
        if name not in names:
            raise CheckpointError(
                f'{pair.a.file}: "{pair.module}" has no place in a decoder of {config.num_hidden_layers} layers; the '
                f"adapter was made for {settings.base or 'another model'}. Name its own base model."
            )
    for name in names:
        module = prefix + _module_end(name)
        if name not in factors and settings.targets_module(module):
            raise CheckpointError(
                f'{settings.where}: target_modules names "{module}", but the weights have no factors for it. '
                "The file is incomplete, or made for a smaller model."
            )


def _update(pair: _Factors, name: str, shapes: Mapping[str, tuple[int, ...]], settings: AdapterConfig) -> LowRankUpdate:
    """The two matrices as float32, their shapes checked."""
    rank, (rows, columns) = settings.rank_of(pair.module), shapes[name]
    for tensor, shape, symbols in ((pair.a, (rank, columns), "r, in"), (pair.b, (rows, rank), "out, r")):
        if tensor.shape != shape:
            raise CheckpointError(
                f'{tensor.file}: "{tensor.name}" is {tensor.shape}, expected {shape} = ({symbols}); the adapter was '
                f"made for {settings.base or 'a model that it does not name'}. Name its own base model."
            )
    return LowRankUpdate(_values(pair.a), _values(pair.b), settings.scale_of(pair.module))


def _values(stored: StoredTensor) -> np.ndarray:
    """A stored matrix as float32 in memory of its own."""
    if stored.raw is None or stored.stored_type not in READABLE_TYPES:
        raise CheckpointError(
            f'{stored.file}: "{stored.name}" is stored as {stored.stored_type}, expected F32, F16 or BF16. '
            "Save the adapter in one of these types."
        )
    lazy = LazyTensor(stored.name, stored.name, stored.file, stored.shape, stored.stored_type, stored.raw)
    return lazy.read(out=np.empty(stored.shape, np.float32))


def _settings(adapter: Adapter) -> dict[str, Any]:
    """adapter_config.json: the most common rank and scale for all, patterns for the other modules."""
    updates = {_module_end(name): update for name, update in adapter.updates.items()}
    ranks = {end: update.rank for end, update in updates.items()}
    alphas = {end: _whole(update.scale * update.rank) for end, update in updates.items()}
    rank, alpha = (collections.Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": dict(_exact(ranks, rank)),
        "alpha_pattern": dict(_exact(alphas, alpha)),
        "target_modules": sorted(updates),
        "use_rslora": False,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "inference_mode": True,
    }


def _module_end(name: str) -> str:
    """The end of a module's name that is the same in every base model, vision tower or not: from "layers." on."""
    return name.removeprefix("model.").removesuffix(".weight")


def _exact(values: Mapping[str, float], common: float) -> Iterator[tuple[str, float]]:
    """Patterns for the modules whose value is another than the common one."""
    return ((end.replace(".", r"\."), value) for end, value in values.items() if value != common)


def _whole(value: float) -> float:
    """A whole number as such, which peft's settings hold alpha as."""
    return int(value) if float(value).is_integer() else value
