"""Gradients of every trained tensor equal those of transformers under PyTorch's autograd, in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import FAMILIES, write_reference
from training import assert_gradients_equal, packed_step, reference_loss, step_of

pytestmark = [pytest.mark.backend, pytest.mark.keras]
CHOSEN = [family for family in FAMILIES if family.name in ("gemma", "gemma2", "gemma3")]
LENGTHS = [[19, 11, 7], [29, 5]]  # longer than the window of 8; both rows end in padding
ROW_LENGTH = 40
RANK, ALPHA = 4, 6.0


@pytest.fixture(scope="module", params=CHOSEN, ids=lambda family: family.name)
def reference(request, tmp_path_factory):
    """transformers' model, and the folder it was saved in."""
    folder = tmp_path_factory.mktemp(request.param.name)
    return write_reference(request.param, folder), folder


@pytest.fixture(scope="module")
def packed():
    return packed_step(LENGTHS, ROW_LENGTH)


def seeded_factors(trained):
    """Factors of the adapter, none of them zero, so that every gradient is there."""
    generator = np.random.default_rng(23)
    return {name: generator.standard_normal(value.shape, dtype=np.float32) / 4 for name, value in trained.items()}


class Adapted(torch.nn.Module):
    """A linear layer with an adapter beside it, as PEFT computes it."""

    def __init__(self, base, a, b, scale):
        super().__init__()
        self.base, self.scale = base, scale
        self.a, self.b = (torch.nn.Parameter(torch.from_numpy(factor)) for factor in (a, b))

    def forward(self, x):
        return self.base(x) + (x @ self.a.T @ self.b.T) * self.scale


def test_every_matrix_of_the_adapter(reference, packed, engine):
    model, folder = reference
    step, documents = packed
    ours = step_of(folder, engine, lora={"rank": RANK, "alpha": ALPHA})
    state = ours.state()
    state.trained = seeded_factors(state.trained)
    ours.load_state(state)
    model.requires_grad_(False)
    adapted, replaced = {}, []
    for name in [name for name in state.trained if name.endswith(".lora_A")]:
        matrix = name.removesuffix(".lora_A")
        parent, leaf = model.get_submodule(matrix.rpartition(".")[0]), matrix.rpartition(".")[2]
        base = getattr(parent, leaf)
        factors = (state.trained[f"{matrix}.lora_{side}"] for side in "AB")
        adapted[matrix] = Adapted(base, *factors, ALPHA / RANK)
        setattr(parent, leaf, adapted[matrix])
        replaced.append((parent, leaf, base))
    try:
        reference_loss(model, documents).backward()
    finally:
        for parent, leaf, base in replaced:
            setattr(parent, leaf, base)
        model.requires_grad_(True)
    expected = {
        f"{matrix}.lora_{side.upper()}": getattr(module, side).grad.numpy()
        for matrix, module in adapted.items()
        for side in "ab"
    }
    assert_gradients_equal(ours.gradients(step), expected)


def test_every_tensor_of_the_model(reference, packed, engine):
    model, folder = reference
    step, documents = packed
    ours = step_of(folder, engine, method="full")
    model.zero_grad()
    loss = reference_loss(model, documents)
    loss.backward()
    expected = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    found = ours.gradients(step)
    assert ours.run(step).loss == pytest.approx(loss.item(), rel=1e-6)
    assert_gradients_equal(found, expected)
