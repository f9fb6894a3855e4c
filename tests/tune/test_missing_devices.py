"""More devices than there are, and methods that take one only, are named."""

from __future__ import annotations

import pytest
from training import recipe_of

from gemcut.config import published
from gemcut.errors import UsageError
from gemcut.tune.layout import Layout

pytestmark = [pytest.mark.backend, pytest.mark.keras]


def test_more_devices_than_there_are(engine):
    if engine == "torch":
        pytest.skip("on PyTorch each process has one device; see test_layout_choice.py")
    with pytest.raises(UsageError, match=r"--devices 64: (JAX|TensorFlow) finds \d+ here \(.*\)\. Ask for fewer, or"):
        _take_64(engine)


def _take_64(engine):
    if engine == "jax":
        from gemcut.tune.train_step_jax_sharded import grid_of

        grid_of(Layout("data", 64))
    else:
        from gemcut.tune.train_step_tensorflow_mirrored import MirroredTrainStep

        MirroredTrainStep(None, {}, None, 64)


def test_qlora_is_for_one_device(engine):
    if engine != "jax":
        pytest.skip("only on JAX a method can be split")
    from gemcut.tune.sharded_model import method_of

    with pytest.raises(UsageError, match="method qlora: runs on one device only so far. Take --devices 1, or --method"):
        method_of(recipe_of(method="qlora"), published("gemma-2b").config, "float32")
