"""Logits are compared through a file as they would be in memory, and a child process reports like a call."""

from __future__ import annotations

import dataclasses
import errno
import io
import math

import numpy as np
import pytest

from gemcut.errors import BackendError, GemcutError, MissingExtraError, UsageError
from gemcut.inspect import logits
from gemcut.inspect.logits import LogitDistance, LogitsTask, compute, kl_divergence, perplexity, run


def task(folder, **changes) -> LogitsTask:
    rows = [[2, 5, 6, 7], [2, 8, 9]]
    fields = {
        "path": str(folder), "engine": "native", "dtype": "float32", "threads": None, "pieces": rows, "windows": rows,
        "file": "", "compares": False,
    }  # fmt: skip
    return LogitsTask(**fields | changes)


def distance(a: np.ndarray, b: np.ndarray) -> dict:
    found = LogitDistance()
    found.add(io.BytesIO(a.astype(np.float32).tobytes()), b.astype(np.float32))
    return found.facts()


def test_divergence_is_that_of_the_definition():
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((2, 4, 50)) * 5
    p, q = (np.exp(values) / np.exp(values).sum(-1, keepdims=True) for values in (a, b))
    np.testing.assert_allclose(kl_divergence(a, b), (p * np.log(p / q)).sum(-1), rtol=1e-10)


@pytest.mark.parametrize("shift", [0.0, 1e4], ids=["plain", "far-from-zero"])
def test_divergence_does_not_see_a_constant(shift):
    a = np.random.default_rng(3).standard_normal((4, 50))
    assert np.abs(kl_divergence(a, a + shift)).max() < 1e-10


def test_distance_adds_up_over_rows():
    rng = np.random.default_rng(5)
    a = rng.standard_normal((21, 30)).astype(np.float32)
    b = a.copy()
    b[4] = b[4][::-1]
    facts = distance(a, b)
    error = np.abs(a.astype(np.float64) - b)
    assert facts["positions"] == 21
    assert facts["max_error"] == error.max()
    assert facts["mean_error"] == pytest.approx(error.mean())
    assert facts["max_kl"] == pytest.approx(float(kl_divergence(*map(np.float64, (a[4:5], b[4:5])))[0]))
    assert facts["mean_kl"] == pytest.approx(facts["max_kl"] / 21)
    assert facts["same_top_rate"] == 20 / 21
    assert facts["is_finite"]


def test_distance_to_itself_is_zero():
    a = np.random.default_rng(5).standard_normal((9, 30))
    facts = distance(a, a)
    assert [facts[key] for key in ("max_error", "mean_error", "mean_kl", "max_kl", "same_top_rate")] == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
def test_logit_that_is_no_number_is_told(value):
    a = np.zeros((2, 3))
    b = a.copy()
    b[1, 2] = value
    assert distance(a, b)["is_finite"] is False


def test_perplexity_is_over_all_windows():
    assert perplexity([[math.log(0.5)], [math.log(0.25), math.log(0.5)]]) == pytest.approx(16 ** (1 / 3))


def test_perplexity_of_a_broken_model_stays_a_number():
    assert math.isfinite(perplexity([[-1e6, -1e9]]))


@pytest.mark.native
def test_two_runs_of_the_native_engine_agree_to_the_bit(tiny_folder, tmp_path):
    first = task(tiny_folder, file=str(tmp_path / "logits"))
    seen = []
    written = run(first, seen.append)
    assert (tmp_path / "logits").stat().st_size == 7 * 704 * 4
    compared = run(dataclasses.replace(first, compares=True), seen.append)
    assert seen == [4, 7, 4, 7]
    assert (written["engine"], written["dtype"], written["distance"]) == ("native", "float32", None)
    assert [len(values) for values in written["logprobs"]] == [3, 2]
    assert compared["logprobs"] == written["logprobs"]
    assert (compared["distance"]["max_error"], compared["distance"]["positions"]) == (0.0, 7)


@pytest.mark.native
def test_full_disk_is_named(tiny_folder, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(logits, "open", lambda *_: Full(), raising=False)
    with pytest.raises(GemcutError, match=r"logits of the first model could not be kept \(No space left on device\)"):
        compute(task(tiny_folder, file="logits"))


@pytest.mark.backend
@pytest.mark.keras
def test_keras_engine_computes_in_a_child_process(engine, tiny_folder, tmp_path):
    first = task(tiny_folder, engine=engine, file=str(tmp_path / "logits"))
    seen = []
    answer = run(first, seen.append)
    assert (answer["engine"], answer["dtype"], seen) == (engine, "float32", [4, 7])
    assert (tmp_path / "logits").stat().st_size == 7 * 704 * 4


@pytest.fixture
def child(monkeypatch):
    """Replaces what the child process runs."""

    def replace(code: str) -> None:
        monkeypatch.setattr(logits, "_CHILD", code)

    return replace


def test_error_of_the_child_is_raised_here(child, tmp_path):
    child(
        "import sys; from gemcut.inspect import logits; from gemcut.errors import UsageError\n"
        "def fail(*_): raise UsageError('dtype is wrong')\n"
        "logits.compute = fail; logits.main()"
    )
    with pytest.raises(UsageError, match="dtype is wrong"):
        run(task(tmp_path, engine="jax"))


@pytest.mark.parametrize(
    ("code", "last"),
    [
        pytest.param("import sys; sys.exit('out of luck')", "exit code 1: out of luck", id="says-why"),
        pytest.param("import os; os._exit(9)", "exit code 9: it said nothing", id="says-nothing"),
    ],
)
def test_child_that_dies_is_named(child, tmp_path, code, last):
    child(code)
    with pytest.raises(BackendError, match=f'engine "jax": its process ended with {last}'):
        run(task(tmp_path, engine="jax"))


def test_missing_engine_is_named_by_the_child(child, tiny_folder):
    child(
        "import importlib.util; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'jax' else find(name, *rest)\n"
        "from gemcut.inspect.logits import main; main()"
    )
    with pytest.raises(MissingExtraError, match='engine "jax": it is not installed'):
        run(task(tiny_folder, engine="jax"))
