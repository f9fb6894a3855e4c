"""Tasks of `gemcut eval` that are asked while a model is tuned."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gemcut.errors import UsageError

if TYPE_CHECKING:
    from gemcut.tune.recipe import Recipe
    from gemcut.tune.run import TaskScores


def scores_of_tasks(data: Sequence[Path]) -> TaskScores:
    """What `tune` asks for scores: the first metric of each of the recipe's tasks, between 0 and 1 or as it is.

    Where there is no accelerator the native engine answers; elsewhere the one that trains.

    Args:
        data: Folders of data sets; Gemcut's cache comes after them.
    """

    def scores(recipe: Recipe, folder: Path) -> dict[str, float]:
        import gemcut
        from gemcut.checkpoint.load import choose_engine
        from gemcut.evaluate.run import evaluate

        engine = "auto" if choose_engine() == "native" else recipe.engine
        if recipe.method == "full":
            model = gemcut.load(folder, engine=engine)
        else:
            model = gemcut.load(recipe.model, engine=engine, adapter=folder)
        limit = recipe.evaluation.task_limit
        with tempfile.TemporaryDirectory() as scratch:
            results = evaluate(model, recipe.evaluation.tasks, output=scratch, data=data, limit=limit)
        model.close()
        return {name: results.figure(name) for name in results.tasks}

    return scores


def check_tasks(names: Sequence[str]) -> None:
    """Refuse tasks that there are none of, or that run programs, before anything is trained.

    Raises:
        UsageError: a task executes code.
        NotFoundError, DataError: a task is missing or damaged.
    """
    from gemcut.evaluate.task_file import load_task

    for name in names:
        if load_task(name).executes_code:
            raise UsageError(f"{name}: runs programs that the model writes, which is not done while it is tuned.")
