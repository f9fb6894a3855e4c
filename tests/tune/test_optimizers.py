"""AdamW equals PyTorch's, Adafactor and Lion equal Keras's, over several steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gemcut.tune.recipe import OptimizerSettings

pytestmark = [pytest.mark.backend, pytest.mark.keras]
SHAPES = {"matrix": (5, 7), "gain": (6,)}
NUM_STEPS, RATE = 6, 0.02


def numpy_of(tensor):
    return tensor.detach().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)


@pytest.fixture
def start():
    generator = np.random.default_rng(1)
    return {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in SHAPES.items()}


@pytest.fixture
def gradients():
    """Of each step; small ones, where epsilon shows."""
    generator = np.random.default_rng(2)
    return [
        {name: np.float32(1e-6) * generator.standard_normal(shape, dtype=np.float32) for name, shape in SHAPES.items()}
        for _ in range(NUM_STEPS)
    ]


def ours(settings, start, gradients):
    from keras import ops

    from gemcut.tune.optimizers import optimizer_of

    optimizer = optimizer_of(settings)
    values = {name: ops.convert_to_tensor(value) for name, value in start.items()}
    slots = {name: {slot: ops.zeros(shape) for slot, shape in optimizer.slots(SHAPES[name]).items()} for name in values}
    for step, each in enumerate(gradients):
        numbers = optimizer.numbers(step, RATE)
        for name in values:
            gradient = ops.convert_to_tensor(each[name])
            values[name], slots[name] = optimizer.update(values[name], gradient, slots[name], numbers)
    return {name: numpy_of(value) for name, value in values.items()}


def test_adamw_is_that_of_pytorch(start, gradients, engine):
    found = ours(OptimizerSettings(beta2=0.99, weight_decay=0.1), start, gradients)
    parameters = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, value in start.items()}
    groups = [{"params": [parameters["matrix"]], "weight_decay": 0.1}, {"params": [parameters["gain"]]}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), weight_decay=0.0)
    for each in gradients:
        for name, parameter in parameters.items():
            parameter.grad = torch.from_numpy(each[name])
        optimizer.step()
    for name, parameter in parameters.items():
        assert np.abs(found[name] - start[name]).max() > NUM_STEPS * RATE / 10
        np.testing.assert_allclose(found[name], parameter.detach().numpy(), rtol=0, atol=3e-7)


@pytest.mark.parametrize(
    ("name", "numbers"), [("adafactor", {}), ("lion", {"beta_1": 0.9, "beta_2": 0.99})], ids=["adafactor", "lion"]
)
def test_the_others_are_those_of_keras(start, gradients, engine, name, numbers):
    import keras

    found = ours(OptimizerSettings(name=name, beta2=0.99, weight_decay=0.1), start, gradients)
    variables = {name: keras.Variable(value) for name, value in start.items()}
    optimizer = keras.optimizers.get({"class_name": name, "config": {"learning_rate": RATE, **numbers}})
    optimizer.weight_decay = 0.1
    optimizer.exclude_from_weight_decay([variables["gain"]])
    for each in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(each[key]) for key in variables], list(variables.values()))
    for key, variable in variables.items():
        assert np.abs(found[key] - start[key]).max() > NUM_STEPS * RATE / 100
        np.testing.assert_allclose(found[key], numpy_of(variable.value), rtol=0, atol=2e-6)


@pytest.mark.parametrize("limit", [0.5, 100.0, None])
def test_clipping_is_that_of_pytorch(start, engine, limit):
    from keras import ops

    from gemcut.tune.optimizers import clip_factor, global_norm

    norm = global_norm({name: ops.convert_to_tensor(value) for name, value in start.items()})
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in SHAPES.values()]
    for parameter, value in zip(parameters, start.values(), strict=True):
        parameter.grad = torch.from_numpy(value.copy())
    expected = torch.nn.utils.clip_grad_norm_(parameters, limit or np.inf)
    assert float(numpy_of(norm)) == pytest.approx(float(expected), rel=1e-6)
    factor = float(numpy_of(clip_factor(norm, limit)))
    np.testing.assert_allclose(start["matrix"] * factor, parameters[0].grad.numpy(), rtol=1e-6)
