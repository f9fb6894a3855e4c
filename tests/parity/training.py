"""What the tests of training share: shrunk models, packed steps of random ids, and transformers' own gradients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gemcut.checkpoint import open_checkpoint
from gemcut.tune.batches import Batch, Step
from gemcut.tune.recipe import Recipe
from gemcut.tune.tuned_model import train_step_of

if TYPE_CHECKING:
    from gemcut.tune.train_step import TrainStep

VOCAB_SIZE = 199
Document = tuple[list[int], list[bool]]


def recipe_of(**changes: Any) -> Recipe:
    """A recipe in float32."""
    return Recipe.from_dict({"model": "m", "data": ["d"], "dtype": "float32"} | changes)


def step_of(folder: Path, engine: str, **changes: Any) -> TrainStep:
    """The steps of a run on the model in a folder."""
    with open_checkpoint(folder) as checkpoint:
        return train_step_of(checkpoint, recipe_of(**changes), num_steps=10, engine=engine)


def documents_of(lengths: Sequence[int], seed: int = 5, vocab_size: int = VOCAB_SIZE) -> list[Document]:
    """Seeded random documents: ids, and which of them are learnt; about half."""
    generator = np.random.default_rng(seed)
    documents = []
    for length in lengths:
        ids = [2, *generator.integers(3, vocab_size, length - 1).tolist()]
        documents.append((ids, [False, *(generator.random(length - 1) < 0.5).tolist()]))
    return documents


def batch_of(rows: Sequence[Sequence[Document]], length: int) -> Batch:
    """Rows of documents side by side, padded to `length`."""
    arrays = {name: np.zeros((len(rows), length), np.int32) for name in ("token_ids", "positions", "segments")}
    targets = np.full((len(rows), length), -1, np.int32)
    for index, documents in enumerate(rows):
        begin = 0
        for number, (ids, learnt) in enumerate(documents, 1):
            end = begin + len(ids)
            arrays["token_ids"][index, begin:end] = ids
            arrays["positions"][index, begin:end] = np.arange(len(ids))
            arrays["segments"][index, begin:end] = number
            targets[index, begin : end - 1] = np.where(learnt[1:], ids[1:], -1)
            begin = end
    return Batch(targets=targets, **arrays)


def packed_step(lengths: Sequence[Sequence[int]], length: int, seed: int = 5) -> tuple[Step, list[Document]]:
    """A step of one micro-batch with a row for each list of lengths, and its documents."""
    documents = documents_of([each for row in lengths for each in row], seed)
    rest = iter(documents)
    return (batch_of([[next(rest) for _ in row] for row in lengths], length),), documents


def reference_loss(model: Any, documents: Sequence[Document]) -> Any:
    """transformers' mean loss of the learnt tokens, each document computed alone; a PyTorch scalar."""
    import torch

    total, count = torch.zeros(()), 0
    for ids, learnt in documents:
        logits = model(torch.tensor([ids])).logits[0, :-1].float()
        targets = torch.tensor([id_ if flag else -100 for id_, flag in zip(ids[1:], learnt[1:], strict=True)])
        total = total + torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
        count += sum(learnt[1:])
    return total / count


def assert_gradients_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], share: float = 1e-4) -> None:
    """Every tensor's largest difference is at most `share` of its largest gradient."""
    assert found.keys() == expected.keys()
    worst = {
        name: float(np.abs(found[name] - gradient).max() / np.abs(gradient).max())
        for name, gradient in expected.items()
    }
    name = max(worst, key=lambda key: worst[key])
    assert worst[name] <= share, f"{name}: {worst[name]:.2e} of its largest gradient"


def backend_gradients(engine: str) -> Any:
    """The backend's own operations of a training step."""
    import importlib

    return importlib.import_module(f"gemcut.tune.train_step_{engine}").BackendGradients()
