"""How many devices a run takes, and what they split, where its recipe leaves that open."""

from __future__ import annotations

import sys
import types

import pytest

from gemcut.errors import UsageError
from gemcut.tune.cluster import ALONE, Cluster
from gemcut.tune.layout import Layout
from gemcut.tune.layout_choice import devices_in_words, layout_of
from gemcut.tune.recipe import Recipe

PAIR = Cluster("here:1", 2, 0, "flags")


def choose(monkeypatch, engine, cluster=ALONE, *, there=8, platform="gpu", batch_size=8, method="lora", **devices):
    """The choice on a machine with so many devices."""
    jax = types.SimpleNamespace(device_count=lambda: there, default_backend=lambda: platform)
    listed = ["GPU"] * there if platform == "gpu" else []
    config = types.SimpleNamespace(list_physical_devices=lambda kind: listed)
    monkeypatch.setitem(sys.modules, "jax", jax)
    monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(config=config))
    recipe = Recipe.from_dict(
        {"model": "m", "data": ["d"], "method": method, "batch_size": batch_size, "devices": devices}
    )
    return layout_of(recipe, engine, cluster)


@pytest.mark.parametrize(
    ("engine", "settings", "expected"),
    [
        pytest.param("jax", {"platform": "cpu"}, None, id="processor"),
        pytest.param("jax", {}, Layout("data", 8), id="accelerators"),
        pytest.param("jax", {"there": 1}, None, id="one-accelerator"),
        pytest.param("jax", {"count": 1}, None, id="one-of-several"),
        pytest.param("jax", {"method": "qlora"}, None, id="qlora"),
        pytest.param("jax", {"count": 4, "platform": "cpu"}, Layout("data", 4), id="processors"),
        pytest.param("jax", {"layout": "fsdp"}, Layout("fsdp", 8), id="fsdp"),
        pytest.param("jax", {"layout": "tensor"}, Layout("tensor", 8, 8), id="tensor"),
        pytest.param("jax", {"layout": "tensor", "tensor": 2}, Layout("tensor", 8, 2), id="tensor-of-two"),
        pytest.param("jax", {"cluster": PAIR, "platform": "cpu", "there": 2}, Layout("data", 2), id="processes"),
        pytest.param("torch", {}, None, id="torch"),
        pytest.param("torch", {"cluster": PAIR}, Layout("data", 2), id="torch-processes"),
        pytest.param("tensorflow", {}, Layout("data", 8), id="tensorflow"),
        pytest.param("tensorflow", {"platform": "cpu"}, None, id="tensorflow-processor"),
    ],
)
def test_choices(monkeypatch, engine, settings, expected):
    assert choose(monkeypatch, engine, **settings) == expected


def test_devices_that_rows_cannot_be_split_over_are_named(monkeypatch, caplog):
    assert choose(monkeypatch, "jax", batch_size=6) == Layout("data", 6)
    assert "6 of 8 devices are used: --batch 6 cannot be split over more. Take a multiple of 8" in caplog.text


@pytest.mark.parametrize(
    ("engine", "settings", "says"),
    [
        pytest.param("jax", {"tensor": 2}, "--tensor-devices 2: is for --layout tensor, .* is data", id="tensor-of-data"),
        pytest.param("jax", {"layout": "tensor", "tensor": 3}, "--tensor-devices 3: expected a divisor of 8", id="divisor"),
        pytest.param("jax", {"cluster": PAIR, "count": 4}, "--devices 4: the 2 processes have 8 devices", id="some"),
        pytest.param("torch", {"count": 4}, "--devices 4: on PyTorch .* torchrun --nproc-per-node 4 -m gemcut", id="torch"),
        pytest.param("torch", {"layout": "fsdp"}, "--layout fsdp: PyTorch has data only", id="torch-fsdp"),
        pytest.param("tensorflow", {"layout": "tensor"}, "--layout tensor: TensorFlow has data only", id="tensorflow"),
    ],
)  # fmt: skip
def test_choices_that_make_no_sense(monkeypatch, engine, settings, says):
    with pytest.raises(UsageError, match=says):
        choose(monkeypatch, engine, **settings)


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (None, "1"),
        (Layout("fsdp", 8), "8 in layout fsdp"),
        (Layout("tensor", 8, 2), "8 in layout tensor, 2 for each product"),
    ],
)
def test_words(layout, words):
    assert devices_in_words(layout) == words
