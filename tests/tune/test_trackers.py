"""Trackers: what they are told, that a run that goes on is the same run there, and what is said when one is missing."""

from __future__ import annotations

import sys
import types

import pytest

from gemcut.errors import MissingExtraError, UsageError
from gemcut.tune.run_log import STEP, RunLog
from gemcut.tune.trackers import tracking

RECIPE = {"model": "starter", "lora": {"rank": 8}}


class FakeWandb(types.ModuleType):
    """What of wandb's interface a tracker uses."""

    def __init__(self):
        super().__init__("wandb")
        self.begun, self.logged, self.finished = [], [], 0

    def init(self, **settings):
        self.begun.append(settings)
        return self

    def log(self, figures, step):
        self.logged.append((step, figures))

    def finish(self):
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return fake


def test_a_tracker_is_told_what_tensorboard_is_told(wandb, tmp_path):
    with tracking(["wandb"], tmp_path, RECIPE, "0123456789abcdef") as trackers:
        log = RunLog(tmp_path, 0, trackers)
        log.write(STEP, 1, {"loss": 2.5, "learning_rate": 0.1, "num_targets": 3})
        log.write("evaluation", 1, {"loss": None, "tasks": {"piqa": 0.5}})
        log.close()
        assert wandb.finished == 0
    assert wandb.finished == 1
    assert wandb.logged == [(1, {"train/loss": 2.5, "train/learning_rate": 0.1}), (1, {"tasks/piqa": 0.5})]
    [settings] = wandb.begun
    assert settings["id"] == f"{tmp_path.name}-01234567"
    assert (settings["resume"], settings["project"], settings["config"]) == ("allow", "gemcut", RECIPE)


def test_it_is_closed_when_the_run_fails(wandb, tmp_path):
    with pytest.raises(ValueError, match="no"), tracking(["wandb"], tmp_path, RECIPE, "0" * 16):
        raise ValueError("no")
    assert wandb.finished == 1


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_one_that_is_not_installed(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf'{name} is not installed. Run: pip install "gemcut\[{name}\]"'):
        tracking([name], tmp_path, RECIPE, "0" * 16).__enter__()


def test_one_that_there_is_none_of(tmp_path):
    with pytest.raises(UsageError, match="tracker 'comet': expected one of wandb, mlflow"):
        tracking(["comet"], tmp_path, RECIPE, "0" * 16).__enter__()
