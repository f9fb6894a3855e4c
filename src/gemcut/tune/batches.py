"""The order of training: rows to micro-batches, micro-batches to steps, and where a run stands in them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gemcut.errors import DataError, UsageError
from gemcut.tune.packing import Row, Rows, row_of


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """Rows under one another; every array is int32 (B, T), as in `Row`."""

    token_ids: np.ndarray
    targets: np.ndarray
    positions: np.ndarray
    segments: np.ndarray

    @property
    def num_targets(self) -> int:
        """Positions at which something is learnt."""
        return int(np.count_nonzero(self.targets >= 0))


Step = tuple[Batch, ...]
"""One step of the optimiser: micro-batches of one shape."""


class Batches:
    """The steps of a run, one after the other.

    An epoch goes over all rows once, in an order that depends on seed and epoch only. Its last step has as many
    micro-batches as it needs, and its last micro-batch is filled up with rows of padding; no row is left out, none
    comes twice.

    Args:
        rows: Rows of one length.
        batch_size: Rows of a micro-batch, B.
        accumulation: Micro-batches of a step, at most.
        seed: Of the order.
        epochs: Passes over the rows; a part of one ends after the step that reaches it.
        steps: Steps of the run, in place of `epochs`.
        shuffle: False for the rows' own order, in every epoch.

    Raises:
        UsageError: there are no rows, or a number is below what makes sense.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        batch_size: int,
        accumulation: int = 1,
        seed: int = 0,
        epochs: float = 1,
        steps: int | None = None,
        shuffle: bool = True,
    ) -> None:
        if not len(rows):
            raise UsageError("data: there are no rows to train on, expected at least one sample.")
        for name, value in (("batch_size", batch_size), ("accumulation", accumulation), ("steps", steps)):
            if value is not None and value < 1:
                raise UsageError(f"{name}: is {value}, expected at least 1.")
        if not epochs > 0 or seed < 0:
            raise UsageError(f"epochs and seed: are {epochs} and {seed}, expected more than 0, and 0 at least.")
        self._rows, self._batch_size, self._rows_per_step = rows, batch_size, batch_size * accumulation
        self._seed, self._shuffle = seed, shuffle
        self.steps_per_epoch = math.ceil(len(rows) / self._rows_per_step)
        self.num_steps = math.ceil(epochs * self.steps_per_epoch) if steps is None else steps
        self._empty = row_of([], rows.length)
        self._epoch = self._position = 0
        self._order = self._order_of(0)

    def __len__(self) -> int:
        """Steps of the whole run."""
        return self.num_steps

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T) of every micro-batch."""
        return self._batch_size, self._rows.length

    @property
    def step(self) -> int:
        """Steps that have been taken."""
        return self._epoch * self.steps_per_epoch + self._position

    @property
    def cursor(self) -> dict[str, Any]:
        """Where the run stands, as JSON: before the step that comes next, and in which rows."""
        return {"epoch": self._epoch, "position": self._position, "rows": self._rows.digest}

    def seek(self, cursor: Mapping[str, Any]) -> None:
        """Go to where a run stood.

        Raises:
            DataError: the cursor is damaged, or belongs to other rows.
        """
        epoch, position = cursor.get("epoch"), cursor.get("position")
        ends = (type(epoch) is int and epoch >= 0, type(position) is int and 0 <= position < self.steps_per_epoch)
        if not all(ends):
            raise DataError(
                f"data cursor: epoch is {epoch!r} and position {position!r}, expected whole numbers, the position "
                f"below {self.steps_per_epoch} steps an epoch. Data, batch or accumulation are not those of the run."
            )
        if cursor.get("rows") != self._rows.digest:
            raise DataError(
                f"data cursor: the run went over rows {str(cursor.get('rows'))[:12]}, these are "
                f"{self._rows.digest[:12]}. A run goes on with the data, tokenizer and packing it began with; begin a "
                "new one for others."
            )
        assert isinstance(epoch, int) and isinstance(position, int)  # noqa: PT018 - checked above
        self._epoch, self._position, self._order = epoch, position, self._order_of(epoch)

    def __iter__(self) -> Iterator[Step]:
        """The steps from the cursor on; when a step is handed out the cursor stands behind it."""
        while self.step < self.num_steps:
            yield self._take()

    def _take(self) -> Step:
        start = self._position * self._rows_per_step
        chosen = self._order[start : start + self._rows_per_step]
        self._position += 1
        if self._position == self.steps_per_epoch:
            self._epoch, self._position = self._epoch + 1, 0
            self._order = self._order_of(self._epoch)
        size = self._batch_size
        return tuple(self._batch(chosen[first : first + size]) for first in range(0, len(chosen), size))

    def _batch(self, chosen: np.ndarray) -> Batch:
        rows = [self._rows[int(index)] for index in chosen]
        rows += [self._empty] * (self._batch_size - len(rows))
        return Batch(*(np.stack([getattr(row, field.name) for row in rows]) for field in dataclasses.fields(Row)))

    def _order_of(self, epoch: int) -> np.ndarray:
        """Indices of the rows in an epoch: the raw numbers of Philox stay the same in every version of NumPy."""
        if not self._shuffle:
            return np.arange(len(self._rows))
        numbers = np.random.Philox(np.random.SeedSequence([self._seed, epoch])).random_raw(len(self._rows))
        return np.argsort(numbers, kind="stable")
