"""Records of training data out of files: JSON Lines, JSON, CSV, parquet, and folders of the datasets library."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from gemcut.errors import DataError, GemcutError, MissingExtraError, NotFoundError
from gemcut.files import file_bytes, parse_json, read_json
from gemcut.hub import cache_folder

MAX_LINE_BYTES = 64 << 20
MAX_LIST_BYTES = 1 << 30  # a JSON list is read as a whole
MAX_UNPACKED_BYTES = 64 << 30
_LINES = (".jsonl", ".ndjson", ".json")
_TABLES = {".csv": ",", ".tsv": "\t"}
_KINDS = ".jsonl, .json, .csv, .tsv (each also with .gz), .parquet, or a folder that datasets saved"
_DICT_FILE, _STATE_FILE = "dataset_dict.json", "state.json"
_MAX_FILES = 100_000


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One record of a file.

    Attributes:
        values: By column.
        source: Where it stands, as "data.jsonl, line 12".
    """

    values: Mapping[str, Any]
    source: str


def find_data(name: str) -> Path:
    """Where data is: at this path, or in the folder of data sets in Gemcut's cache, packed or not.

    Raises:
        NotFoundError: in neither.
    """
    cached = cache_folder() / "datasets" / name
    places = [Path(name).expanduser(), cached, cached.with_name(cached.name.removesuffix(".gz"))]
    for place in places:
        if place.exists():
            return place
    raise NotFoundError(f"{name}: neither here nor at {cached}. Check the path, or put the data there.")


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file or folder, one after the other.

    Args:
        path: Its ending says what it is. A .json file is a list of objects, or one object a line.

    Raises:
        NotFoundError: nothing is there.
        DataError: it is of another kind, damaged, larger than its kind may be, or empty; the line or row is named.
        MissingExtraError: parquet and folders need pyarrow, which is not installed.
    """
    records = _records(path)
    first = next(records, None)
    if first is None:
        raise DataError(f"{path}: holds no records, expected at least one.")
    yield first
    yield from records


def _records(path: Path) -> Iterator[Record]:
    if path.is_dir():
        return _folder(path)
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind == ".parquet" and path.suffix != ".gz":
        file_bytes(path, DataError)
        return _parquet(path)
    if kind in _TABLES:
        return _table(path, _TABLES[kind])
    if kind in _LINES:
        return _json_list(path) if _first_byte(path) == b"[" else _json_lines(path)
    raise DataError(f"{path}: ends in {kind or 'nothing'!r}, expected {_KINDS}.")


def _opened(path: Path) -> gzip.GzipFile | IO[bytes]:
    file_bytes(path, DataError)
    try:
        return gzip.open(path) if path.suffix == ".gz" else open(path, "rb")
    except OSError as problem:
        raise DataError(f"{path}: cannot be read ({problem.strerror}). Check its permissions.") from None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, numbered from 1, unpacked where it is packed."""
    number, size = 0, 0
    with _opened(path) as file:
        while line := _read(file, path, number + 1):
            number, size = number + 1, size + len(line)
            if len(line) > MAX_LINE_BYTES:
                raise DataError(
                    f"{path}, line {number}: is longer than {MAX_LINE_BYTES} bytes, expected one record a line. "
                    "Is this JSON over several lines? Make it a list: [...]."
                )
            if size > MAX_UNPACKED_BYTES:
                raise DataError(f"{path}: unpacks to more than {MAX_UNPACKED_BYTES} bytes, expected fewer. Divide it.")
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _read(file: gzip.GzipFile | IO[bytes], path: Path, number: int) -> bytes:
    try:
        return file.readline(MAX_LINE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as problem:
        raise DataError(f"{path}, line {number}: cannot be read ({problem}). The file is damaged.") from None


def _first_byte(path: Path) -> bytes:
    """The first byte that is no white space; empty where there is none."""
    return next((line.strip()[:1] for _, line in _lines(path) if line.strip()), b"")


def _json_lines(path: Path) -> Iterator[Record]:
    for number, line in _lines(path):
        if line.strip():
            source = f"{path}, line {number}"
            yield Record(_object(_line_json(line, source), source), source)


def _line_json(line: bytes, source: str) -> Any:
    try:
        return parse_json(line, source, DataError)
    except DataError as problem:
        reason = str(problem).removeprefix(f"{source}: ").partition(". The file is")[0].rstrip(".")
        raise DataError(f"{source}: {reason}, expected one object a line. Correct this line, or take it out.") from None


def _json_list(path: Path) -> Iterator[Record]:
    data = bytearray()
    for _, line in _lines(path):
        data += line
        if len(data) > MAX_LIST_BYTES:
            raise DataError(
                f"{path}: is a JSON list of more than {MAX_LIST_BYTES} bytes, expected fewer. Write one object a line "
                "(.jsonl); that has no limit."
            )
    for number, value in enumerate(parse_json(bytes(data), str(path), DataError), 1):
        source = f"{path}, record {number}"
        yield Record(_object(value, source), source)


def _object(value: Any, source: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{source}: is {json.dumps(value)[:60]}, expected a JSON object with the columns of a record.")
    return value


def _table(path: Path, delimiter: str) -> Iterator[Record]:
    """Records of a CSV file; the number in `source` is that of the line in which a record begins."""
    counted = _Counted(path)
    limit = csv.field_size_limit(MAX_LINE_BYTES)
    try:
        reader = csv.reader(counted, delimiter=delimiter, strict=True)
        names = next(reader, [])
        if len(set(names)) < len(names) or not all(names):
            raise DataError(f"{path}, line 1: names the columns {names}, expected names that differ.")
        while True:
            source = f"{path}, line {counted.number + 1}"
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as problem:
                raise DataError(f"{source}: is not CSV ({problem}). Correct its quotes.") from None
            if not values:
                continue
            if len(values) != len(names):
                raise DataError(f"{source}: has {len(values)} fields, expected {len(names)}: {', '.join(names)}.")
            yield Record(dict(zip(names, values, strict=True)), source)
    finally:
        csv.field_size_limit(limit)


class _Counted:
    """The lines of a file as text, and how many were read."""

    def __init__(self, path: Path) -> None:
        self._path, self._lines, self.number = path, _lines(path), 0

    def __iter__(self) -> _Counted:
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as problem:
            raise DataError(
                f"{self._path}, line {self.number}: byte {problem.start + 1} is not UTF-8. Convert the file to UTF-8."
            ) from None


def _parquet(path: Path) -> Iterator[Record]:
    parquet = _pyarrow("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:
            yield from _rows_of(file.iter_batches(1024), path)
    except GemcutError:
        raise
    except (OSError, ValueError, RuntimeError, ArithmeticError) as problem:  # what Arrow's errors are derived from
        raise DataError(f"{path}: is not a whole parquet file ({_first_line(problem)}). Get it again.") from None


def _rows_of(batches: Iterable[Any], path: Path, start: int = 0) -> Iterator[Record]:
    number = itertools.count(start + 1)
    for batch in batches:
        for values in batch.to_pylist():
            yield Record(values, f"{path}, row {next(number)}")


def _folder(path: Path) -> Iterator[Record]:
    """Records of a folder that `Dataset.save_to_disk` wrote."""
    if (path / _DICT_FILE).is_file():
        splits = _strings(read_json(path / _DICT_FILE, error=DataError), "splits", path / _DICT_FILE)
        raise DataError(
            f"{path}: holds the splits {', '.join(splits)}, expected one. Name the one to use: {path / splits[0]}."
        )
    if not (path / _STATE_FILE).is_file():
        raise DataError(f"{path}: is a folder without {_STATE_FILE}, expected {_KINDS}.")
    state = read_json(path / _STATE_FILE, error=DataError)
    files = state.get("_data_files") if isinstance(state, dict) else None
    if not isinstance(files, list) or len(files) > _MAX_FILES or not all(isinstance(file, dict) for file in files):
        raise DataError(f"{path / _STATE_FILE}: names no files in _data_files, expected those of the data set.")
    number = 0
    for file in files:
        for record in _arrow(path / _inside(file.get("filename"), path), number):
            number += 1
            yield Record(record.values, f"{path}, row {number}")


def _strings(value: Any, key: str, path: Path) -> list[str]:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list) or not found or not all(isinstance(each, str) for each in found):
        raise DataError(f"{path}: {key} is {found!r:.60}, expected a list of names. The file is damaged.")
    return found


def _inside(name: Any, folder: Path) -> str:
    """A file's name, which is in the folder itself."""
    if not isinstance(name, str) or name != Path(name).name or name in ("", ".", ".."):
        raise DataError(f"{folder / _STATE_FILE}: names the file {name!r:.80}, expected one in the same folder.")
    return name


def _arrow(path: Path, start: int) -> Iterator[Record]:
    """Records of an Arrow file in the streaming format, which `datasets` writes."""
    pyarrow = _pyarrow("pyarrow")
    file_bytes(path, DataError)
    try:
        with pyarrow.memory_map(str(path)) as file, pyarrow.ipc.open_stream(file) as reader:
            yield from _rows_of(reader, path, start)
    except GemcutError:
        raise
    except (OSError, ValueError, RuntimeError, ArithmeticError) as problem:
        raise DataError(f"{path}: is not a whole Arrow stream ({_first_line(problem)}). Get it again.") from None


def _first_line(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0]


def _pyarrow(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(
            'Parquet and folders of data sets need pyarrow, which is not installed. Install the extra: pip install "'
            'gemcut[tune]".'
        ) from None


__all__ = ["Record", "find_data", "read_records"]
