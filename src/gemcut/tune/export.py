"""What comes out of a run: an adapter as PEFT saves it, or all weights; with what the base model's licence asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from gemcut.checkpoint import Checkpoint
from gemcut.checkpoint.adapter import ADAPTER_TEMPLATE, Adapter, write_adapter
from gemcut.checkpoint.convert import write_changed
from gemcut.checkpoint.lazy_tensor import LazyTensor
from gemcut.files import atomic_write_text
from gemcut.hub import licence_of, write_duties
from gemcut.hub.licences import terms_of
from gemcut.hub.model_card import MODEL_CARD
from gemcut.interfaces import LowRankUpdate
from gemcut.tune.recipe import Recipe

ADAPTER, MODEL = "adapter", "model"
_TOWER = "model.language_model."


def export_adapter(
    folder: Path,
    updates: Mapping[str, LowRankUpdate],
    checkpoint: Checkpoint,
    recipe: Recipe,
    about: str,
    template: str | None = None,
) -> None:
    """Write an adapter that `peft`, and `--adapter` of Gemcut's commands, take.

    Args:
        folder: Where to; made where it is not there, its files are replaced.
        updates: What is added to each matrix, by our names.
        checkpoint: The base model.
        recipe: Of the run.
        about: How it came about, in a line.
        template: Source of the chat template that it was trained with; None for plain text.

    Raises:
        GemcutError: the disk is full or not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finding = licence_of(checkpoint.path, checkpoint.gguf_metadata)
    has_tower = any("vision" in reason for _, reason in checkpoint.unused)
    base, prefix = finding.base or recipe.model, _TOWER if has_tower else "model."
    write_adapter(folder, Adapter(MappingProxyType(dict(updates)), base, prefix), recipe.lora.saved_as)
    if template is not None:
        atomic_write_text(folder / ADAPTER_TEMPLATE, template)
    atomic_write_text(folder / MODEL_CARD, _card(recipe, finding.base, _identifier(checkpoint), about))
    write_duties(
        folder,
        finding.licence,
        base=finding.base,
        modifications=[f"a LoRA adapter for it was trained: {about}"],
        source=checkpoint.path,
        source_metadata=checkpoint.gguf_metadata,
    )


def export_model(folder: Path, trained: Mapping[str, np.ndarray], checkpoint: Checkpoint, about: str) -> None:
    """Write all weights as a Hugging Face folder, in float32 as they were trained.

    Args:
        folder: Where to; a model that is there is replaced.
        trained: Every tensor, float32 by our names.
        checkpoint: The base model; its tokenizer and settings go along.
        about: How it came about, in a line.

    Raises:
        GemcutError: the disk is full or not writable.
    """
    tensors = {
        name: LazyTensor(
            name, name, "training", values.shape, "F32", np.ascontiguousarray(values).reshape(-1).view("u1")
        )
        for name, values in ((name, trained[name]) for name in checkpoint.tensors)
    }
    changed = dataclasses.replace(checkpoint, tensors=MappingProxyType(tensors))
    write_changed(changed, folder, [f"all weights were trained: {about}"], overwrite=True)


def _identifier(checkpoint: Checkpoint) -> str | None:
    """The licence as model cards name it."""
    terms = terms_of(licence_of(checkpoint.path, checkpoint.gguf_metadata).licence)
    return terms.identifiers[0] if terms else None


def _card(recipe: Recipe, base: str | None, licence: str | None, about: str) -> str:
    """The adapter's README.md."""
    head = [f"base_model: {base}"] * (base is not None) + [f"license: {licence}"] * (licence is not None)
    targets = ", ".join(recipe.lora.targets)
    return "\n".join(
        [
            "---",
            *head,
            "library_name: peft",
            "tags:\n- lora",
            "---",
            "",
            f"# An adapter for {base or recipe.model}",
            "",
            f"LoRA of rank {recipe.lora.rank}, alpha {recipe.lora.alpha:g}, on {targets}.",
            f"Made with Gemcut: {about}.",
            "",
            "It changes the base model's answers; what the base model's licence asks for lies beside this file.",
            "",
        ]
    )
