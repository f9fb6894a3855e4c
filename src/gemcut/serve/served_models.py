"""The models that a server answers with, by the names that clients use."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import gemcut
from gemcut.generate import TextModel
from gemcut.generate.scheduler import Scheduler
from gemcut.serve.errors import RequestError, shown
from gemcut.text.tool_calls import ToolFormat
from gemcut.text.tool_calls_functiongemma import BEGIN, FunctionGemmaToolFormat
from gemcut.text.tool_calls_gemma import GemmaToolFormat

# OpenAI's default; generation_config.json of most chat models says the same.
_DEFAULT_SAMPLING = {"temperature": 1.0}


@dataclasses.dataclass(frozen=True, eq=False)
class ServedModel:
    """A model with the scheduler that runs it.

    Attributes:
        name: What clients call it.
        text_model: The model.
        scheduler: Owned by the engine thread.
        base: Name of the model that an adapter changes; None for a model as it is.
        created: When it was loaded, in seconds since 1970.
    """

    name: str
    text_model: TextModel
    scheduler: Scheduler
    base: str | None = None
    created: int = dataclasses.field(default_factory=lambda: int(time.time()))

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Sampling where a request says nothing."""
        return {**_DEFAULT_SAMPLING, **self.text_model.defaults}

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the same seed may give another text: with the version, the engine, the type and the model."""
        lm = self.text_model
        parts = (gemcut.__version__, lm.engine, lm.dtype, lm.name, repr(lm.config))
        return "fp_" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

    @cached_property
    def tool_format(self) -> ToolFormat:
        """How the model calls tools."""
        has_markers = BEGIN in self.text_model.tokenizer.special_tokens
        return FunctionGemmaToolFormat() if has_markers else GemmaToolFormat()

    def card(self) -> dict[str, Any]:
        """Its entry in GET /v1/models."""
        lm = self.text_model
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "gemcut",
            "root": self.base or self.name,
            "parent": self.base,
            "max_model_len": lm.context,
            "context_length": lm.context,
            "engine": lm.engine,
            "dtype": lm.dtype,
            "is_chat": lm.is_instruction_tuned,
            "defaults": self.defaults,
        }


class ServedModels:
    """The models of a server; the first is the one that a request without a name gets."""

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self._models = {model.name: model for model in models}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def find(self, name: str | None) -> ServedModel:
        """The model called `name`, or the first.

        Raises:
            RequestError: there is none of that name (404).
        """
        if not name:
            return next(iter(self))
        if name not in self._models:
            known = ", ".join(self._models)
            raise RequestError(
                f"model: there is no {shown(name)}, expected one of {known}. GET /v1/models lists them.",
                status=404,
                param="model",
                code="model_not_found",
            )
        return self._models[name]
