"""Types for a size: what fits, what gets more bits, what cannot be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemcut.checkpoint import convert, open_checkpoint
from gemcut.checkpoint.lazy_tensor import LazyTensor
from gemcut.checkpoint.target_size import type_errors
from gemcut.config.parameters import EMBEDDING
from gemcut.errors import CheckpointError, UsageError

HARD, EASY = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"


def matrix(values: np.ndarray) -> LazyTensor:
    """A float32 matrix as it lies in a file."""
    raw = np.ascontiguousarray(values, np.float32).view(np.uint8).reshape(-1)
    return LazyTensor("w", "w", "f", values.shape, "F32", raw)


@pytest.fixture
def wide_model(configs: Any, random_weights: Callable[..., Any], write_hf: Callable[..., Path]) -> Path:
    """Rows of 256, so that every type fits; one matrix lies on a grid of 4 bits, all others are noise."""
    config = dataclasses.replace(configs["gemma"], hidden_size=256, intermediate_size=256, num_hidden_layers=2)
    rng = np.random.default_rng(3)
    weights = {name: rng.standard_normal(values.shape) for name, values in random_weights(config).items()}
    weights[EASY] = rng.integers(-8, 8, weights[EASY].shape) / 8
    weights[EASY][:, ::32] = -1  # each block reaches its end of the grid
    return write_hf(config, {name: values.astype(np.float32) for name, values in weights.items()})


@pytest.mark.parametrize("share", [0.15, 0.2, 0.3, 0.6])
def test_all_files_fit_and_use_the_size(share: float, wide_model: Path, tmp_path: Path) -> None:
    num_bytes = round(share * convert(wide_model, tmp_path / "f32.gguf", "gguf", dry_run=True).num_bytes)
    report = convert(wide_model, tmp_path / "m.gguf", "gguf", target_bytes=num_bytes)
    assert 0.85 * num_bytes < report.num_bytes <= num_bytes
    assert report.num_bytes == sum((tmp_path / name).stat().st_size for name, _, _ in report.files)
    assert report.type == "mixed"
    assert report.notes[-1] == f"Each matrix has the type in which the model loses least within {num_bytes:,} bytes."


def test_bits_go_where_they_help(wide_model: Path, tmp_path: Path) -> None:
    convert(wide_model, tmp_path / "m.gguf", "gguf", target_bytes=420_000)
    with open_checkpoint(tmp_path / "m.gguf") as checkpoint:
        types = {name: tensor.stored_type for name, tensor in checkpoint.tensors.items()}
    assert types[EASY] == "Q4_0"  # which holds it exactly
    assert types[HARD] in ("Q5_K", "Q6_K", "Q8_0")


def test_what_is_stored_in_blocks_stays_where_it_fits(wide_model: Path, tmp_path: Path) -> None:
    convert(wide_model, tmp_path / "a.gguf", "gguf", type="Q4_K_M")
    size = (tmp_path / "a.gguf").stat().st_size
    report = convert(tmp_path / "a.gguf", tmp_path / "b.gguf", "gguf", target_bytes=size + 10_000)
    actions = {row.source_name: row.action for row in report.tensors}
    assert actions.pop("blk.1.ffn_up.weight") == "converted"  # to Q4_0, which holds it exactly too
    assert set(actions.values()) == {"copied"}
    with open_checkpoint(tmp_path / "a.gguf") as one, open_checkpoint(tmp_path / "b.gguf") as other:
        for name, tensor in one.tensors.items():
            assert np.array_equal(tensor.read(), other.tensors[name].read())


def test_a_size_that_is_too_small_is_named(wide_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the target size is 100000 bytes, the smallest types take [0-9]+. Ask for"):
        convert(wide_model, tmp_path / "m.gguf", "gguf", target_bytes=100_000)
    assert not (tmp_path / "m.gguf").exists()


@pytest.mark.parametrize(
    ("to", "kind", "found"), [("hf", None, "hf"), ("gguf", "Q8_0", "type Q8_0")], ids=["format", "type"]
)
def test_size_stands_for_a_type_of_gguf(
    to: str, kind: str | None, found: str, wide_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=f"target_bytes is 5 with {found}, expected it for gguf and without a type"):
        convert(wide_model, tmp_path / "m", to, type=kind, target_bytes=5)


def test_progress_names_what_is_measured(wide_model: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    convert(wide_model, tmp_path / "m.gguf", "gguf", target_bytes=300_000, progress=lambda *step: seen.append(step))
    measured = [step for step in seen if step[0].startswith("measuring ")]
    assert f"measuring {EMBEDDING}" in [name for name, _, _ in measured]
    assert [done for _, done, _ in measured] == list(range(1, measured[-1][2] + 1))


def test_errors_fall_with_bits_and_count_what_matters() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((32, 256))
    plain = type_errors(matrix(values), None)
    order = ["Q2_K", "Q3_K", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "F16", "F32"]
    found = [plain[kind] for kind in order]
    assert found == sorted(found, reverse=True)
    assert plain["F32"] == 0
    assert 0.005 < plain["Q4_0"] < 0.02
    importance = np.where(np.arange(256) % 32 < 4, 100.0, 0.01).astype(np.float32)
    assert type_errors(matrix(values), importance)["Q4_0"] < 0.7 * plain["Q4_0"]


def test_errors_of_some_rows_stand_for_all_and_narrow_rows_have_fewer_types() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((3000, 160)) * 0.02
    errors = type_errors(matrix(values), None)
    assert errors.keys() == {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"}
    assert errors["Q4_0"] == pytest.approx(type_errors(matrix(values[:1500]), None)["Q4_0"], rel=0.05)
    assert set(type_errors(matrix(np.zeros((4, 32))), None).values()) == {0.0}


def test_a_number_that_is_none_is_refused() -> None:
    values = np.ones((4, 32))
    values[2, 7] = np.nan
    with pytest.raises(CheckpointError, match='f: "w" has a value that is NaN or infinite, expected finite numbers'):
        type_errors(matrix(values), None)
