"""Samples against the length of a row: what is too long or has nothing to learn is an error, or cut, or left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from gemcut.errors import DataError
from gemcut.tune.samples import Sample

_MAX_LISTED = 5  # in an error; the report lists all
Place = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Changed:
    """Samples that were cut or left out, each as (source, tokens before).

    Attributes:
        truncated: Cut at the sequence length, because `overlong: truncate` asks for it.
        overlong: Left out, because `overlong: drop` asks for it.
        empty: Left out, because nothing in them is learnt, and `empty: drop` asks for it.
        cut_empty: Left out, because cutting would have left nothing that is learnt.
        twins: Left out of training, because they are in the held-out file too.
    """

    truncated: tuple[Place, ...] = ()
    overlong: tuple[Place, ...] = ()
    empty: tuple[Place, ...] = ()
    cut_empty: tuple[Place, ...] = ()
    twins: tuple[Place, ...] = ()


class Fitting:
    """Makes samples fit, and remembers what was done to them.

    Args:
        length: Tokens of a row.
        overlong: "error", "truncate" or "drop".
        empty: "error" or "drop".
    """

    def __init__(self, length: int, *, overlong: str, empty: str) -> None:
        self._length, self._overlong, self._empty = length, overlong, empty
        self._changed = Changed()

    def of(self, samples: Iterable[Sample]) -> list[Sample]:
        """The samples that are kept, at most as long as a row.

        Raises:
            DataError: some are too long, or empty, and that is an error.
        """
        kept, cut, dropped, empty = list[Sample](), list[Place](), list[Place](), list[Place]()
        cut_empty = list[Place]()
        for sample in samples:
            place, short = (sample.source, len(sample)), sample.cut(self._length)
            if not sample.num_targets:
                empty.append(place)
            elif len(sample) <= self._length:
                kept.append(sample)
            elif self._overlong != "truncate":
                dropped.append(place)
            elif short.num_targets:
                cut.append(place)
                kept.append(short)
            else:
                cut_empty.append(place)
        self._check(dropped, empty)
        for name, places in (("truncated", cut), ("overlong", dropped), ("empty", empty), ("cut_empty", cut_empty)):
            self._add(name, places)
        return kept

    def changed(self, twins: Sequence[Sample] = ()) -> Changed:
        """All that was done; `twins` are samples that were left out of training because they are held out."""
        return dataclasses.replace(self._changed, twins=tuple((sample.source, len(sample)) for sample in twins))

    def _add(self, name: str, places: Sequence[Place]) -> None:
        changes = {name: (*getattr(self._changed, name), *places)}
        self._changed = dataclasses.replace(self._changed, **changes)

    def _check(self, overlong: Sequence[Place], empty: Sequence[Place]) -> None:
        if overlong and self._overlong == "error":
            longest = max(size for _, size in overlong)
            raise DataError(
                f"{_count(overlong, 'is', 'are')} longer than a row of {self._length} tokens: {_places(overlong)}. "
                f"Raise --sequence-length (the longest has {longest}), or say what becomes of them: --overlong "
                "truncate or --overlong drop."
            )
        if empty and self._empty == "error":
            raise DataError(
                f"{_count(empty, 'has', 'have')} nothing to learn, an empty completion or only turns of weight 0: "
                f"{_places(empty)}. Correct them, or leave them out with --empty drop."
            )


def _count(places: Sequence[Place], one: str, many: str) -> str:
    return f"1 sample {one}" if len(places) == 1 else f"{len(places)} samples {many}"


def _places(places: Sequence[Place]) -> str:
    shown = [f"{source} ({size} tokens)" for source, size in places[:_MAX_LISTED]]
    return "; ".join(shown) + (f"; and {len(places) - _MAX_LISTED} more" if len(places) > _MAX_LISTED else "")


__all__ = ["Changed", "Fitting"]
