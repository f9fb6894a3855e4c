"""What tests of evaluation share."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gemcut.evaluate.task import Task
from gemcut.evaluate.task_file import load_task

sys.path.insert(0, str(Path(__file__).parent))  # for synthetic_runs, prompt_cases


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as files of a data set, packed where their name says so; the folder of the set comes back."""

    def write(files: Mapping[str, Sequence[Mapping[str, Any]]], name: str = "own") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for file, rows in files.items():
            text = _written(Path(file.removesuffix(".gz")).suffix, rows).encode()
            (folder / file).write_bytes(gzip.compress(text) if file.endswith(".gz") else text)
        return folder

    return write


def _written(kind: str, rows: Sequence[Mapping[str, Any]]) -> str:
    if kind == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if kind == ".txt":
        return "".join(f"{row['text']}\n" for row in rows)
    file = io.StringIO(newline="")
    table = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == ".tsv" else ",")
    table.writeheader()
    table.writerows(rows)
    return file.getvalue()


@pytest.fixture
def task_on(write_rows: Callable[..., Path]) -> Callable[..., Task]:
    """A task that Gemcut brings, on rows of a test."""

    def make(name: str, files: Mapping[str, Sequence[Mapping[str, Any]]]) -> Task:
        task, folder = load_task(name), str(write_rows(files, name))
        parts = {key: dataclasses.replace(part, data_set=folder) for key, part in task.parts.items()}
        return dataclasses.replace(task, data_set=folder, parts=parts)

    return make


@pytest.fixture
def card_run(tmp_path: Path) -> Path:
    """A run of the seven tasks of the starter's card, and MMLU."""
    from synthetic_runs import card_tasks, mmlu_task, write_run

    return write_run(tmp_path / "run", card_tasks() | {"mmlu": mmlu_task()})
