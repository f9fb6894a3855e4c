"""Layouts of several devices: what is split, what cannot be, and losses that are those of one device."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from families import FAMILIES, write_reference

from gemcut.config import published
from gemcut.config.parameters import parameter_shapes
from gemcut.errors import UsageError
from gemcut.tune.layout import Layout, Placement

SCRIPT = Path(__file__).parent / "layout_losses.py"
GEMMA_2B, GEMMA_7B = published("gemma-2b").config, published("gemma-7b").config


def losses_of(family_name, method, layouts, folder, engine="jax", **changes):
    """Losses of a shrunk model, [layouts, steps], and shares; its sizes can be divided by eight."""
    family = next(family for family in FAMILIES if family.name == family_name)
    settings = family.settings | {"num_attention_heads": 8, "vocab_size": 200, "num_hidden_layers": 2} | changes
    write_reference(dataclasses.replace(family, settings=settings), folder)
    command = [sys.executable, str(SCRIPT), engine, str(folder), method, json.dumps(layouts)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.array(json.loads(done.stdout.splitlines()[-1]))
    return found[:, :-1], found[:, -1]


@pytest.mark.parametrize(
    ("family", "method", "layouts", "changes"),
    [
        pytest.param("gemma2", "lora", [["data", 8, 1], ["tensor", 8, 8]], {}, id="gemma2-lora"),
        pytest.param("gemma3", "full", [["fsdp", 8, 1], ["tensor", 8, 2]], {}, id="gemma3-full"),
        pytest.param("gemma", "lora", [["fsdp", 8, 1]], {"vocab_size": 199}, id="vocabulary-of-a-prime-size"),
    ],
)
def test_losses_are_those_of_one_device(family, method, layouts, changes, tmp_path):
    [alone, *others], [_, *shares] = losses_of(family, method, [None, *layouts], tmp_path, **changes)
    assert alone[0] > alone[-1], "nothing was learnt"
    vocabulary_is_split = changes.get("vocab_size", 200) % 8 == 0
    for layout, found, share in zip(layouts, others, shares, strict=True):
        np.testing.assert_allclose(found, alone, rtol=1e-5, atol=0, err_msg=str(layout))
        parts = {"data": 1, "fsdp": layout[1], "tensor": layout[2]}[layout[0]]
        assert share < (1 / parts + 0.1 if vocabulary_is_split else 0.4), f"{layout}: a device holds {share:.3f} of all"


def test_losses_of_mirrored_devices_on_tensorflow(tmp_path):
    [alone, mirrored], _ = losses_of(
        "gemma", "lora", [None, ["data", 2, 1]], tmp_path, "tensorflow", num_hidden_layers=1
    )
    np.testing.assert_allclose(mirrored, alone, rtol=1e-5, atol=0)


def test_fsdp_splits_every_matrix_of_published_models():
    for config in (GEMMA_2B, GEMMA_7B, published("gemma-3-27b-it").config):
        placement = Placement(config, Layout("fsdp", 8))
        whole = {name for name, shape in parameter_shapes(config).items() if placement.axis(name, shape) is None}
        assert all(name.endswith("norm.weight") for name in whole)


def test_tensor_layout_of_one_key_head():
    placement = Placement(GEMMA_2B, Layout("tensor", 8, 4))
    own = placement.own_config
    assert (own.num_attention_heads, own.num_key_value_heads, own.intermediate_size) == (2, 1, 4096)
    assert placement.shares_keys
    assert placement.rows_of_part("model.layers.0.self_attn.k_proj.weight", 256, 3) == (0, 256)
    assert placement.rows_of_part("model.layers.0.self_attn.q_proj.weight", 2048, 3) == (1536, 2048)
    assert placement.axis("self_attn.k_proj.weight", (256, 2048)) is None
    assert placement.axis("self_attn.o_proj.weight", (2048, 2048)) == 1
    assert placement.is_used_in_part("model.layers.0.self_attn.o_proj.lora_B")
    assert not placement.is_used_in_part("model.layers.0.self_attn.o_proj.lora_A")


def test_tensor_layout_of_several_key_heads():
    placement = Placement(GEMMA_7B, Layout("tensor", 8, 8))
    assert not placement.shares_keys
    assert placement.rows_of_part("self_attn.v_proj.weight", 4096, 1) == (512, 1024)
    shared = Placement(published("gemma-3-4b-it").config, Layout("tensor", 8, 8))  # four key heads
    assert [shared.rows_of_part("self_attn.v_proj.weight", 1024, part)[0] // 256 for part in range(8)] == [
        0, 0, 1, 1, 2, 2, 3, 3,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "changes", "batch", "says"),
    [
        pytest.param(Layout("data", 8), {}, 6, r"batch_size is 6, .* multiple of 8, .* Take --batch 8,", id="batch"),
        pytest.param(Layout("tensor", 8, 2), {}, 6, r"batch_size is 6, .* multiple of 4", id="batch-of-tensor"),
        pytest.param(Layout("tensor", 3, 3), {}, 3, "num_attention_heads of this model is 8, .* multiple of 3", id="heads"),
        pytest.param(Layout("tensor", 8, 8), {"intermediate_size": 100}, 8, "intermediate_size of this model", id="width"),
        pytest.param(Layout("tensor", 8, 8), {"vocab_size": 199}, 8, "vocab_size of this model is 199", id="vocabulary"),
        pytest.param(
            Layout("tensor", 4, 4),
            {"num_attention_heads": 12, "num_key_value_heads": 6, "intermediate_size": 16},
            4,
            "num_key_value_heads of this model is 6, expected a multiple or a divisor of 4",
            id="key-heads",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_divided(layout, changes, batch, says):
    with pytest.raises(UsageError, match=says):
        Placement(dataclasses.replace(GEMMA_2B, **changes), layout).check(batch)
