"""YAML to plain values and back, its errors in our words."""

from __future__ import annotations

from typing import Any

from gemcut.errors import MissingExtraError, UsageError


def from_yaml(text: str, where: str) -> Any:
    """What a YAML text says.

    Raises:
        UsageError: it is not YAML; the line is named.
        MissingExtraError: PyYAML is not installed.
    """
    yaml = _yaml()
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"{where}{line}: is not YAML ({problem}). Correct it.") from None


def to_yaml(value: Any) -> str:
    """Plain values as YAML, keys in their order."""
    return str(_yaml().safe_dump(value, sort_keys=False, allow_unicode=True, width=100))


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingExtraError(
            'Recipes need PyYAML, which is not installed. Install the extra: pip install "gemcut[tune]".'
        ) from None
    return yaml


__all__ = ["from_yaml", "to_yaml"]
