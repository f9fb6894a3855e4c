"""Rows of benchmark data sets: plain files in folders, checked against known checksums."""

from __future__ import annotations

import csv
import functools
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from gemcut.errors import DataError, NotFoundError
from gemcut.files import parse_json, read_bytes
from gemcut.hub import cache_folder

MAX_FILE_BYTES = 256 << 20
MAX_UNPACKED_BYTES = 1 << 30
Row = dict[str, Any]


class DataFolders:
    """Where data sets are looked for, in order: each is a folder named like the set.

    Args:
        folders: The places; Gemcut's cache comes after them.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self.folders = [*folders, cache_folder() / "datasets"]
        self._rows: dict[tuple[str, str], list[Row]] = {}
        self._digests: dict[tuple[str, str], str] = {}

    def rows(self, data_set: str, file: str, sha256: str | None = None) -> list[Row]:
        """The rows of a file of a data set, in order. They are kept; nobody changes them.

        Args:
            data_set: Its name, or a path to a folder of one that is not among those Gemcut knows.
            file: Name of a .jsonl, .csv, .tsv or .txt file, or of one of these with .gz behind it.
            sha256: What its contents must have, of a file that Gemcut does not know; None for anything.

        Raises:
            NotFoundError: it is in none of the folders.
            DataError: it is damaged, or not the file that is known by this name.
        """
        key = (data_set, file)
        if key not in self._rows:
            path, data = self._contents(data_set, file, sha256)
            self._rows[key] = list(_parsed(path, _text(path, data)))
        return self._rows[key]

    def check(self, data_set: str, file: str) -> None:
        """See that a file is there and whole; raises as `rows` does."""
        self._contents(data_set, file, None)

    def _contents(self, data_set: str, file: str, sha256: str | None) -> tuple[Path, bytes]:
        path = self.path(data_set, file)
        data = _unpacked(path, read_bytes(path, MAX_FILE_BYTES, DataError))
        self._digests[data_set, file] = hashlib.sha256(data).hexdigest()
        expected = known_data_sets().get(data_set, {}).get("files", {}).get(file, {}).get("sha256", sha256)
        if expected is not None:
            _check_digest(path, self._digests[data_set, file], expected)
        return path, data

    def digest(self, data_set: str, file: str) -> str:
        """SHA-256 of a file's contents, unpacked where it is packed; raises as `rows` does."""
        self.rows(data_set, file)
        return self._digests[data_set, file]

    def path(self, data_set: str, file: str) -> Path:
        """Where a file of a data set lies; one that is packed may lie there unpacked.

        Raises:
            NotFoundError: in none of the folders.
        """
        places = [folder / data_set / name for folder in self.folders for name in (file, file.removesuffix(".gz"))]
        for place in places:
            if place.is_file():
                return place
        raise NotFoundError(
            f"{data_set}/{file}: not in {', '.join(str(folder) for folder in self.folders)}. Name a folder of data "
            "sets with --data DIR, or get it with `gemcut eval fetch`."
        )


@functools.cache
def known_data_sets() -> Mapping[str, Any]:
    """What is known of data sets, by name: licence, source, and each file's rows and sha256 of its contents."""
    text = (resources.files("gemcut.evaluate") / "data_sets.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def _check_digest(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise DataError(
            f"{path}: the SHA-256 of its contents is {found}, expected {expected}. It is damaged or another version; "
            "get it again, or name a folder of your own data with a task file of your own."
        )


def _unpacked(path: Path, data: bytes) -> bytes:
    if path.suffix != ".gz":
        return data
    try:
        with gzip.open(io.BytesIO(data)) as file:
            data = file.read(MAX_UNPACKED_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: is not a whole gzip file ({error}). Get it again.") from None
    if len(data) > MAX_UNPACKED_BYTES:
        raise DataError(f"{path}: unpacks to more than {MAX_UNPACKED_BYTES} bytes, expected fewer. It is no data set.")
    return data


def _text(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8, expected text in UTF-8. Convert it.") from None


def _parsed(path: Path, text: str) -> Iterator[Row]:
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind == ".jsonl":
        return _json_rows(path, text)
    if kind in (".csv", ".tsv"):
        return _table_rows(path, text, "\t" if kind == ".tsv" else ",")
    if kind == ".txt":
        return ({"text": line} for line in text.splitlines() if line.strip())
    raise DataError(
        f"{path}: ends in {kind or 'nothing'!r}, expected .jsonl, .csv, .tsv or .txt, or one of them and .gz."
    )


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):  # a text in a row may hold other line breaks
        if not line.strip():
            continue
        row = parse_json(line.encode("utf-8"), f"{path}, line {number}", DataError)
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: is {line[:40]!r}, expected a JSON object.")
        yield row


def _table_rows(path: Path, text: str, delimiter: str) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    for row in reader:
        if None in row or None in row.values():
            raise DataError(f"{path}, line {reader.line_num}: has another number of fields than the first line.")
        yield row


__all__ = ["DataFolders", "Row", "known_data_sets"]
