"""Experiment trackers that a run can tell its figures to, beside its own log: Weights & Biases, MLflow."""

from __future__ import annotations

import abc
import contextlib
import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gemcut.errors import MissingExtraError, UsageError
from gemcut.files import atomic_write_text

PROJECT = "gemcut"
_MLFLOW_RUN = "mlflow-run.txt"


class Tracker(abc.ABC):
    """Takes figures of a run."""

    @abc.abstractmethod
    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Tell figures by their TensorBoard tags, as they are after a step."""

    @abc.abstractmethod
    def close(self) -> None:
        """The run ends or is interrupted; what was told is kept."""


class WandbTracker(Tracker):
    """Weights & Biases; what it asks for (key, mode, entity) it takes from its own environment variables.

    Args:
        run: The run's folder, whose name is the run's there.
        recipe: Plain values of the recipe.
        digest: Of the recipe; a run that goes on is the same run there.
    """

    def __init__(self, run: Path, recipe: Mapping[str, Any], digest: str) -> None:
        wandb = _imported("wandb")
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self._run = wandb.init(
            project=project, name=run.name, id=f"{run.name}-{digest[:8]}", resume="allow", dir=str(run), config=recipe
        )

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


class MlflowTracker(Tracker):
    """MLflow, at the place that MLFLOW_TRACKING_URI names; else in the folder `mlruns` of the run.

    Args:
        run, recipe: As of `WandbTracker`; the id of the run there is kept in the run's folder.
    """

    def __init__(self, run: Path, recipe: Mapping[str, Any], digest: str) -> None:
        mlflow = _imported("mlflow")
        if "MLFLOW_TRACKING_URI" not in os.environ:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            mlflow.set_tracking_uri((run / "mlruns").resolve().as_uri())
        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
        known = run / _MLFLOW_RUN
        run_id = known.read_text(encoding="utf-8").strip() if known.is_file() else None
        self._mlflow, started = mlflow, mlflow.start_run(run_id=run_id, run_name=None if run_id else run.name)
        if run_id is None:
            atomic_write_text(known, started.info.run_id + "\n")
            mlflow.log_params({name: str(value)[:500] for name, value in _flat(recipe)} | {"digest": digest})

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(figures), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


TRACKERS: dict[str, type[WandbTracker | MlflowTracker]] = {"wandb": WandbTracker, "mlflow": MlflowTracker}


@contextlib.contextmanager
def tracking(names: Sequence[str], run: Path, recipe: Mapping[str, Any], digest: str) -> Iterator[list[Tracker]]:
    """The trackers of these names, closed at the end.

    Yields:
        A list of Tracker.

    Raises:
        UsageError: there is no tracker of a name.
        MissingExtraError: its package is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise UsageError(f"tracker {name!r}: expected one of {', '.join(TRACKERS)}.")
    with contextlib.ExitStack() as stack:
        trackers: list[Tracker] = []
        for name in names:
            tracker = TRACKERS[name](run, recipe, digest)
            stack.callback(tracker.close)
            trackers.append(tracker)
        yield trackers


def _imported(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingExtraError(
            f'{package} is not installed. Run: pip install "gemcut[{package}]", or leave --track {package} out.'
        ) from None


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as pairs, with dots in the names."""
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return pairs
