"""Steps on PyTorch in several processes: each learns from its share of the rows, and gradients are added up."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from keras.src.backend.torch.core import get_device
from torch import distributed

from gemcut.tune.batches import Batch
from gemcut.tune.forward import Tree
from gemcut.tune.schedule import LearningRate
from gemcut.tune.step_program import StepProgram, Tensors
from gemcut.tune.train_step_torch import BackendTrainStep

Tensor = Any
BUCKET_NUMBERS = 16 << 20  # numbers that travel together: few messages, and little memory for their copy


class DataParallelTrainStep(BackendTrainStep):
    """Steps that every process takes in the same way, with the mean over all rows of a batch.

    The process group of PyTorch is there already; rows of a batch can be divided by its size.
    """

    def __init__(self, program: StepProgram, frozen: Tree, learning_rate: LearningRate) -> None:
        self._rank, self._size = distributed.get_rank(), distributed.get_world_size()
        super().__init__(program, frozen, learning_rate)

    def _arrays(self, batch: Batch) -> dict[str, np.ndarray]:
        """Those of this process's rows."""
        own = {
            field.name: np.array_split(getattr(batch, field.name), self._size)[self._rank]
            for field in dataclasses.fields(Batch)
        }
        return super()._arrays(Batch(**own))

    def _summed(self, batches: list[dict[str, np.ndarray]], scale: float) -> tuple[Tensors, Tensor]:
        sums, loss = super()._summed(batches, scale)
        distributed.all_reduce(loss)
        for bucket in _buckets(sums):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            distributed.all_reduce(flat)
            for tensor, total in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(total.view_as(tensor))
        return sums, loss

    @torch.no_grad()
    def _loss_of(self, batch: dict[str, np.ndarray]) -> float:
        loss = torch.tensor(super()._loss_of(batch), dtype=torch.float64, device=get_device())
        distributed.all_reduce(loss)
        return float(loss)


def _buckets(tensors: Tensors) -> Iterator[list[Tensor]]:
    """The tensors in groups of about BUCKET_NUMBERS, in an order that is the same in every process."""
    bucket, size = list[Tensor](), 0
    for name in sorted(tensors):
        bucket.append(tensors[name])
        size += math.prod(tensors[name].shape)
        if size >= BUCKET_NUMBERS:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket
