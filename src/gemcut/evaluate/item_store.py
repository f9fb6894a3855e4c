"""Answers and scores of a task's items in a file that grows while they come, and that a killed run goes on with."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gemcut.errors import DataError, GemcutError, UsageError
from gemcut.evaluate.task import Answer, ChoiceScore, RollingScore
from gemcut.files import atomic_write_bytes, read_bytes

FORMAT = 1
MAX_BYTES = 4 << 30


@dataclasses.dataclass(frozen=True)
class ItemRecord:
    """What is known of one item.

    Attributes:
        item_id, subset: Of the item.
        key: Digest of what the model was asked, token for token; an answer counts for no other question.
        metrics: Its scores.
        answers: As the model gave them, one for each request.
        more: What else the line says, such as the prompts.
    """

    item_id: str
    subset: str | None
    key: str
    metrics: dict[str, float]
    answers: tuple[Answer, ...]
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def line(self) -> bytes:
        """The record as a line of JSON in UTF-8."""
        fields = {
            "item_id": self.item_id,
            "subset": self.subset,
            "metrics": self.metrics,
            "answers": [_plain(answer) for answer in self.answers],
            "key": self.key,
            **self.more,
        }
        return _json_line(fields)


class ItemStore:
    """The file of one task in a run's folder.

    Its first line says whose answers these are; a file of another model, engine or setting is never continued. A last
    line that a killed process left half-written is dropped.

    Args:
        path: The file; made if it is not there.
        header: What must be the same: model, task and settings, as JSON has them.
        fresh: Begin anew, whatever is there.

    Attributes:
        records: By item, in the order of the file.

    Raises:
        UsageError: the file is another run's.
        DataError: it is damaged.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], *, fresh: bool = False) -> None:
        self.path = path
        self._header = json.loads(json.dumps({"format": FORMAT, **header}))
        self.records: dict[str, ItemRecord] = {}
        data = b"" if fresh or not path.is_file() else path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole:
            self._read(whole)
        else:
            whole = _json_line(self._header)
            atomic_write_bytes(path, whole)
        self._file = -1
        self._open(len(whole))

    def append(self, records: Sequence[ItemRecord]) -> None:
        """Add records; once this returns, they outlive the process.

        Raises:
            GemcutError: the disk is full.
        """
        data = memoryview(b"".join(record.line() for record in records))
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as problem:
            raise GemcutError(f"{self.path}: could not be written ({problem.strerror}). Free space.") from None
        self.records.update((record.item_id, record) for record in records)

    def keep(self, records: Iterable[ItemRecord]) -> None:
        """Leave these records in the file, in this order, and nothing else."""
        self.close()
        kept = list(records)
        data = b"".join([_json_line(self._header), *(record.line() for record in kept)])
        atomic_write_bytes(self.path, data)
        self.records = {record.item_id: record for record in kept}
        self._open(len(data))

    def close(self) -> None:
        """Close the file; it can be opened again by another store."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _open(self, num_bytes: int) -> None:
        """Open the file for more lines after the first `num_bytes`."""
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            os.ftruncate(self._file, num_bytes)
        except OSError as problem:
            raise GemcutError(
                f"{self.path}: cannot be written ({problem.strerror}). Choose another --output."
            ) from None

    def _read(self, data: bytes) -> None:
        header, *lines = [
            _parsed(line, f"{self.path}, line {number}") for number, line in enumerate(data[:-1].split(b"\n"), 1)
        ]
        if header != self._header:
            name, found, expected = _difference(header, self._header)
            raise UsageError(
                f"{self.path}: holds answers of another run: {name} was {found}, now it is {expected}. Name another "
                "folder with --output, or begin anew with --fresh."
            )
        for number, line in enumerate(lines, 2):
            record = _record(line, f"{self.path}, line {number}")
            if record.item_id in self.records:
                raise DataError(
                    f"{self.path}, line {number}: item {record.item_id!r} is there twice, expected once. Begin anew "
                    "with --fresh."
                )
            self.records[record.item_id] = record


def read_records(path: Path) -> tuple[dict[str, Any], list[ItemRecord]]:
    """Header and records of a task's file; a last line that is not whole is left out.

    Raises:
        NotFoundError: nothing is there.
        DataError: it is damaged.
    """
    data = read_bytes(path, MAX_BYTES, DataError)
    lines = data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]
    parsed = [_parsed(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
    records = [_record(line, f"{path}, line {number}") for number, line in enumerate(parsed[1:], 2)]
    return (parsed[0] if parsed else {}), records


def _plain(answer: Answer) -> Any:
    """An answer as JSON has it."""
    if isinstance(answer, ChoiceScore):
        return [answer.logprob, answer.num_tokens, answer.is_greedy]
    return [answer.logprob, answer.num_tokens] if isinstance(answer, RollingScore) else answer


def _answer(plain: Any) -> Answer:
    if isinstance(plain, str):
        return plain
    logprob, num_tokens, *is_greedy = plain
    if is_greedy:
        return ChoiceScore(float(logprob), int(num_tokens), bool(is_greedy[0]))
    return RollingScore(float(logprob), int(num_tokens))


_KEYS = ("item_id", "subset", "metrics", "answers", "key")


def _record(line: Any, where: str) -> ItemRecord:
    try:
        metrics = {str(name): float(value) for name, value in line["metrics"].items()}
        answers = tuple(_answer(each) for each in line["answers"])
        more = {name: value for name, value in line.items() if name not in _KEYS}
        return ItemRecord(str(line["item_id"]), line["subset"], str(line["key"]), metrics, answers, more)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DataError(
            f"{where}: is no item's, expected {', '.join(_KEYS)}. The file is damaged; begin anew with --fresh."
        ) from None


def _parsed(line: bytes, where: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as problem:
        raise DataError(f"{where}: is not JSON ({problem}). The file is damaged; begin anew with --fresh.") from None


def _json_line(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _difference(found: Any, expected: Any, name: str = "header") -> tuple[str, Any, Any]:
    """Where two headers differ first, and the values there."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in (*expected, *found):
            if found.get(key) != expected.get(key):
                return _difference(found.get(key), expected.get(key), key)
    return name, found, expected


__all__ = ["ItemRecord", "ItemStore", "read_records"]
