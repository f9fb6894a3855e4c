"""adapter_config.json of a PEFT LoRA adapter: which modules it changes, with which rank and scale.

Source: peft 0.21.2, `LoraConfig` (keys and defaults), `check_target_module_exists` and `get_pattern_key` (matching).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gemcut.errors import CheckpointError
from gemcut.files import read_json

ADAPTER_CONFIG = "adapter_config.json"
_USED = frozenset(
    "peft_type r lora_alpha use_rslora rank_pattern alpha_pattern target_modules exclude_modules layers_to_transform "
    "layers_pattern base_model_name_or_path init_lora_weights".split()
)
# What training needed, or what only describes; none of it changes the adapter's numbers.
_HARMLESS = frozenset(
    "auto_mapping ensure_weight_tying inference_mode lora_dropout megatron_config megatron_core parent_library "
    "peft_version qalora_group_size revision runtime_config task_type".split()
)
_OFF: tuple[Any, ...] = (None, False, "none", [], {})
# Other ways to begin (pissa, olora, corda, loftq, ...) change the base model's weights as well.
_KEPT_BASE = (True, False, None, "gaussian", "eva", "orthogonal")
_ANY_LIST = r".*?\.[^.]*\.(\d+)\."
_MAX_PATTERN = 1000  # characters: far more than names of modules need


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """The settings of a LoRA adapter, each checked by itself.

    Attributes:
        where: The file, for messages.
        rank, alpha: Of every module that no pattern names.
        use_rslora: Whether the scale is alpha / sqrt(r); else it is alpha / r.
        rank_patterns, alpha_patterns: (expression for the end of a module's name, value); the first that fits counts.
        targets, excluded: Names or ends of names of modules, or one expression for whole names.
        layers: Indices that `targets` is limited to; None for all.
        layer_lists: Expressions for what comes before a layer's index; none for anything.
        base: base_model_name_or_path; None where it names none.
    """

    where: str
    rank: int
    alpha: float
    use_rslora: bool
    rank_patterns: tuple[tuple[str, int], ...]
    alpha_patterns: tuple[tuple[str, float], ...]
    targets: str | tuple[str, ...]
    excluded: str | tuple[str, ...]
    layers: tuple[int, ...] | None
    layer_lists: tuple[str, ...]
    base: str | None

    def rank_of(self, module: str) -> int:
        """The rank r of a module of the base model."""
        return next((rank for pattern, rank in self.rank_patterns if _ends(pattern, module)), self.rank)

    def scale_of(self, module: str) -> float:
        """What B A is multiplied by in a module of the base model."""
        alpha = next((alpha for pattern, alpha in self.alpha_patterns if _ends(pattern, module)), self.alpha)
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def targets_module(self, module: str) -> bool:
        """Whether the adapter changes a module, a linear layer of the base model."""
        if _named(self.excluded, module):
            return False
        if isinstance(self.targets, str):
            return self.targets.lower() == "all-linear" or bool(re.fullmatch(self.targets, module))
        if module in self.targets or self.layers is None:
            return _named(self.targets, module)
        expressions = [rf"(?:^|.*?\.){name}\.(\d+)\." for name in self.layer_lists] or [_ANY_LIST]
        found = next(filter(None, (re.match(expression, module) for expression in expressions)), None)
        return _named(self.targets, module) and found is not None and int(found[1]) in self.layers


def read_adapter_config(path: Path) -> AdapterConfig:
    """The settings in a file.

    Raises:
        NotFoundError: there is no such file.
        CheckpointError: it is damaged, of another kind of adapter, or asks for what is not supported.
    """
    settings, where = read_json(path), str(path)
    if not isinstance(settings, dict):
        raise CheckpointError(f"{where}: is a {type(settings).__name__}, expected a JSON object.")
    if settings.get("peft_type") != "LORA":
        raise CheckpointError(
            f"{where}: peft_type is {settings.get('peft_type')!r}, expected 'LORA'. Merge the adapter into its base "
            "model with peft, and take the result."
        )
    _refuse_others(settings, where)
    return AdapterConfig(
        where,
        rank=_value(settings, "r", where, _is_rank, "a whole number of at least 1", 8),
        alpha=_value(settings, "lora_alpha", where, _is_number, "a number", 8),
        use_rslora=_value(settings, "use_rslora", where, _is_switch, "true or false", False),
        rank_patterns=_patterns(settings, "rank_pattern", where, _is_rank, "whole numbers of at least 1"),
        alpha_patterns=_patterns(settings, "alpha_pattern", where, _is_number, "numbers"),
        targets=_names(settings, "target_modules", where, required=True),
        excluded=_names(settings, "exclude_modules", where),
        layers=_layers(settings, where),
        layer_lists=_layer_lists(settings, where),
        base=_value(settings, "base_model_name_or_path", where, _is_text, "a name", None),
    )


def _refuse_others(settings: Mapping[str, Any], where: str) -> None:
    """Refuse whatever would change the numbers in a way that is not computed here."""
    start = settings.get("init_lora_weights", True)
    if start not in _KEPT_BASE:
        raise CheckpointError(
            f"{where}: init_lora_weights is {start!r}, which changed the base model too; expected one of "
            f"{', '.join(map(repr, _KEPT_BASE))}. Save it again with peft's path_initial_model_for_weight_conversion."
        )
    for key, value in settings.items():
        if key not in _USED | _HARMLESS and value not in _OFF:
            raise CheckpointError(
                f"{where}: {key} is {value!r:.80}, which is not supported; expected plain LoRA, without it. "
                "Merge the adapter into its base model with peft, and take the result."
            )


def _value(
    settings: Mapping[str, Any], key: str, where: str, fits: Callable[[Any], bool], expected: str, default: Any
) -> Any:
    value = settings.get(key)
    if value is None:
        return default
    if not fits(value):
        raise CheckpointError(f"{where}: {key} is {value!r:.80}, expected {expected}. The file is damaged.")
    return value


def _is_rank(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_switch(value: Any) -> bool:
    return type(value) is bool


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _patterns(
    settings: Mapping[str, Any], key: str, where: str, fits: Callable[[Any], bool], expected: str
) -> tuple[tuple[str, Any], ...]:
    """A rank or alpha for each pattern, in the file's order."""
    table = settings.get(key) or {}
    if not isinstance(table, dict) or not all(map(fits, table.values())):
        raise CheckpointError(f"{where}: {key} is {table!r:.80}, expected {expected} by module. The file is damaged.")
    return tuple((_expression(pattern, key, where), value) for pattern, value in table.items())


def _names(settings: Mapping[str, Any], key: str, where: str, *, required: bool = False) -> str | tuple[str, ...]:
    """Names of modules, or one expression."""
    names = settings.get(key) or ()
    if isinstance(names, str):
        return _expression(names, key, where)
    if (required and not names) or not isinstance(names, list | tuple) or not all(map(_is_text, names)):
        raise CheckpointError(
            f"{where}: {key} is {names!r:.80}, expected names of modules, or one expression. The file is damaged."
        )
    return tuple(names)


def _layers(settings: Mapping[str, Any], where: str) -> tuple[int, ...] | None:
    layers = settings.get("layers_to_transform")
    layers = [layers] if type(layers) is int else layers
    if not layers:
        return None
    if not isinstance(layers, list) or not all(type(index) is int for index in layers):
        raise CheckpointError(
            f"{where}: layers_to_transform is {layers!r:.80}, expected indices of layers. The file is damaged."
        )
    return tuple(layers)


def _layer_lists(settings: Mapping[str, Any], where: str) -> tuple[str, ...]:
    names = _names(settings, "layers_pattern", where)
    return tuple(_expression(name, "layers_pattern", where) for name in ([names] if isinstance(names, str) else names))


def _expression(pattern: str, key: str, where: str) -> str:
    """A regular expression that compiles."""
    try:
        if len(pattern) > _MAX_PATTERN:
            raise re.error(f"longer than {_MAX_PATTERN} characters")
        re.compile(pattern)
    except re.error as problem:
        raise CheckpointError(
            f"{where}: {key} has {pattern!r:.80}, which is no regular expression ({problem}). The file is damaged."
        ) from None
    return pattern


def _ends(pattern: str, module: str) -> bool:
    return re.match(rf"(.*\.)?({pattern})$", module) is not None


def _named(names: str | tuple[str, ...], module: str) -> bool:
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)
