"""Chat templates for model files that carry none."""

from __future__ import annotations

import functools
import importlib.resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemcut.text.tokenizer import Tokenizer

_FILES = {
    "gemma": "gemma",
    "gemma2": "gemma",
    "gemma3": "gemma3",
    "gemma3_text": "gemma3",
    "llama": "llama2",
    "mistral": "mistral",
}
_FUNCTION_GEMMA_PIECE = "<start_function_declaration>"


def builtin_template(model_type: str, tokenizer: Tokenizer) -> str | None:
    """Jinja source of a family's chat template.

    Args:
        model_type: As in config.json. FunctionGemma shares "gemma3_text" and is known by its control tokens.
        tokenizer: Whose control tokens the template would write.

    Returns:
        The source, or None for a family without one.

    Source: the families' published prompt formats; docs of the file forms stand in the templates.
    """
    name = _FILES.get(model_type)
    if name == "gemma3" and _FUNCTION_GEMMA_PIECE in tokenizer.special_tokens:
        name = "function_gemma"
    return None if name is None else _read(name)


@functools.cache
def _read(name: str) -> str:
    return (importlib.resources.files(__package__) / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
