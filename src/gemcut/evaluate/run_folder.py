"""A finished run on disk, as reports and comparisons read it: its facts, and the scores of its items."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gemcut.errors import DataError, NotFoundError
from gemcut.evaluate.item_store import ItemRecord, read_records
from gemcut.files import parse_json, read_bytes

FORMAT = 1
RESULTS = "results.json"
MAX_RESULTS_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """What a run wrote.

    Attributes:
        path: Its folder.
        facts: What results.json says; its keys are listed in docs/evaluation.md.
    """

    path: Path
    facts: Mapping[str, Any]

    @property
    def tasks(self) -> Mapping[str, Any]:
        """Facts of each task, by its name."""
        return dict(self.facts["tasks"])

    @property
    def model_name(self) -> str:
        """What the model was called when it was run."""
        return str(self.facts["model"]["name"])

    def items(self, task: str) -> list[ItemRecord]:
        """The items of a task in the order in which they were stored. A last line that was cut off is left out.

        Raises:
            NotFoundError: the file is missing.
            DataError: a line is not what the runner writes, or an item occurs twice.
        """
        path = self.path / "items" / f"{task}.jsonl"
        _, records = read_records(path)
        seen: set[str] = set()
        for record in records:
            if record.item_id in seen:
                raise DataError(
                    f"{path}: the item {record.item_id!r} occurs twice, expected each once. Run the task again with "
                    "--fresh."
                )
            seen.add(record.item_id)
        return records


def item_score(item: ItemRecord, metric: str) -> float | None:
    """An item's part in a figure that is a mean of items; None where it has none.

    lm-evaluation-harness calls BBQ's figures accuracy_amb and the like, and so do we; an item's own is acc_amb.
    """
    found = item.metrics.get(metric)
    return item.metrics.get(metric.replace("accuracy_", "acc_", 1)) if found is None else found


def read_run(folder: Path) -> RunFolder:
    """The run in a folder.

    Raises:
        NotFoundError: there is no results.json in it.
        DataError: that file is damaged, of another version, or no run's.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise NotFoundError(
            f"{folder}: holds no {RESULTS}, expected the folder that `gemcut eval MODEL --output FOLDER` wrote. Check "
            "the path."
        )
    facts = parse_json(read_bytes(path, MAX_RESULTS_BYTES, DataError), str(path), DataError)
    found = facts.get("format") if isinstance(facts, dict) else None
    if found != FORMAT:
        raise DataError(
            f"{path}: its format is {found!r}, expected {FORMAT}. It was written by another version of Gemcut, or is "
            "no run's; run the tasks again."
        )
    for key in ("model", "tasks"):
        if not isinstance(facts.get(key), dict):
            raise DataError(f"{path}: has no {key!r}, expected what the runner writes. The file is damaged.")
    if "name" not in facts["model"]:
        raise DataError(f"{path}: the model has no name, expected what the runner writes. The file is damaged.")
    for name, task in facts["tasks"].items():
        for key in ("metrics", "primary_metric", "num_items", "num_total", "num_shots"):
            if not isinstance(task, dict) or key not in task:
                raise DataError(
                    f"{path}: task {name!r} has no {key!r}, expected what the runner writes. It is damaged."
                )
    return RunFolder(folder, facts)
