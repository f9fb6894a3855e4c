"""From a model reference to a model that answers."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from gemcut.checkpoint import Checkpoint, open_checkpoint
from gemcut.checkpoint.adapter import adapter_template, read_adapter
from gemcut.checkpoint.load import choose_engine, choose_keras_engine, load_model
from gemcut.checkpoint.native import folder_of, generation_config_of, is_native_format, open_native
from gemcut.config import PUBLISHED
from gemcut.engine import NativeCheckpoint, NativeTokenizer
from gemcut.generate.text_model import TextModel
from gemcut.hub import adapter_of, resolve
from gemcut.text import ChatTemplate, Tokenizer, chat_template_for, check_tokenizer_matches, load_tokenizer

logger = logging.getLogger("gemcut")


def load(
    reference: str | os.PathLike[str],
    *,
    engine: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    context: int | None = None,
    adapter: str | os.PathLike[str] | None = None,
) -> TextModel:
    """A model on this machine, ready to answer.

    Args:
        reference: Any model reference: "starter", a published name, "hf:ORG/REPO", or a path to a file or folder;
            "starter-it" is the starter with its adapter.
        engine: "auto", "native", "jax", "torch" or "tensorflow".
        dtype: "auto", "float32", "bfloat16" or "float16"; on the native engine, which keeps the weights as they are
            stored, "float32" means keys and values in float32.
        threads: CPU threads; None for the engine's default.
        context: Tokens of prompt and answer together; None for the model's own.
        adapter: Folder of a LoRA adapter as `peft` saves it, which is computed beside the weights; None for the
            reference's own, or none. A chat template that lies there goes before the model's.

    Raises:
        NotFoundError: the model is not on this machine.
        CheckpointError, ConfigError, TokenizerError: its files are damaged or do not belong together.
        BackendError: the engine is missing, or another one already runs in this process.
    """
    begin = time.perf_counter()
    path = resolve(reference)
    adapter = adapter if adapter is not None else adapter_of(reference)
    engine = engine_for(path, engine)
    with open_native(path) if engine == "native" else open_checkpoint(path) as checkpoint:
        tokenizer = tokenizer_of(checkpoint)
        settings = (
            generation_config_of(checkpoint)
            if isinstance(checkpoint, NativeCheckpoint)
            else checkpoint.generation_config
        )
        added = read_adapter(adapter, checkpoint) if adapter is not None else None
        template = chat_template_for(
            tokenizer,
            checkpoint.config.model_type,
            where=checkpoint.path.name if adapter is None else os.fspath(adapter),
            source=None if adapter is None else adapter_template(adapter),
        )
        model = TextModel(
            load_model(checkpoint, engine, dtype, threads, added),
            tokenizer,
            template,
            generation_config=settings,
            is_instruction_tuned=is_instruction_tuned(reference, template),
            context=context,
            name=os.fspath(reference),
        )
    model.path, model.adapter = path, None if adapter is None else Path(adapter)
    model.load_seconds = time.perf_counter() - begin
    logger.info("%s: %s in %s on %s", model.name, model.engine, model.dtype, model.device)
    return model


def engine_for(path: Path, engine: str) -> str:
    """The engine that a request means for a checkpoint: "auto" takes native only for files that it reads."""
    chosen = choose_engine(engine)
    if chosen == "native" and engine == "auto" and not is_native_format(path):
        return choose_keras_engine()
    return chosen


def tokenizer_of(checkpoint: Checkpoint | NativeCheckpoint) -> Tokenizer:
    """The tokenizer that came with a checkpoint, checked against its embedding."""
    if isinstance(checkpoint, NativeCheckpoint):
        if checkpoint.has_vocabulary:
            tokenizer: Tokenizer = NativeTokenizer(checkpoint)
        else:
            tokenizer = load_tokenizer(folder_of(checkpoint))
    elif checkpoint.gguf_metadata is not None:
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
