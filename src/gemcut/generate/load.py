"""From a model reference to a model that answers."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from gemcut.checkpoint import Checkpoint, open_checkpoint
from gemcut.checkpoint.load import load_model
from gemcut.config import PUBLISHED
from gemcut.generate.text_model import TextModel
from gemcut.hub import resolve
from gemcut.text import ChatTemplate, Tokenizer, chat_template_for, check_tokenizer_matches, load_tokenizer

logger = logging.getLogger("gemcut")


def load(
    reference: str | os.PathLike[str],
    *,
    engine: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    context: int | None = None,
) -> TextModel:
    """A model on this machine, ready to answer.

    Args:
        reference: Any model reference: "starter", a published name, "hf:ORG/REPO", or a path to a file or folder.
        engine: "auto", "jax", "torch" or "tensorflow".
        dtype: "auto", "float32", "bfloat16" or "float16".
        threads: CPU threads; None for the engine's default.
        context: Tokens of prompt and answer together; None for the model's own.

    Raises:
        NotFoundError: the model is not on this machine.
        CheckpointError, ConfigError, TokenizerError: its files are damaged or do not belong together.
        BackendError: the engine is missing, or another one already runs in this process.
    """
    begin = time.perf_counter()
    path = resolve(reference)
    with open_checkpoint(path) as checkpoint:
        tokenizer = tokenizer_of(checkpoint)
        template = chat_template_for(tokenizer, checkpoint.config.model_type, where=checkpoint.path.name)
        model = TextModel(
            load_model(checkpoint, engine, dtype, threads),
            tokenizer,
            template,
            generation_config=checkpoint.generation_config,
            is_instruction_tuned=is_instruction_tuned(reference, template),
            context=context,
            name=os.fspath(reference),
        )
    model.load_seconds = time.perf_counter() - begin
    logger.info("%s: %s in %s on %s", model.name, model.engine, model.dtype, model.device)
    return model


def tokenizer_of(checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer that came with a checkpoint, checked against its embedding."""
    if checkpoint.gguf_metadata is not None:
        tokenizer = Tokenizer.from_gguf(checkpoint.gguf_metadata, where=checkpoint.path.name)
    else:
        tokenizer = load_tokenizer(checkpoint.tokenizer_files or Path(checkpoint.path))
    check_tokenizer_matches(tokenizer, checkpoint.config.vocab_size, checkpoint.path.name)
    return tokenizer


def is_instruction_tuned(reference: Any, template: ChatTemplate | None) -> bool:
    """Whether a model was trained to chat: it brought its own chat template, or its published name says so."""
    if template is not None and not template.is_builtin:
        return True
    name = os.fspath(reference)
    return name in PUBLISHED and PUBLISHED[name].instruction_tuned
