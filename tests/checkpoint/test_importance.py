"""Importance files: what was written is read, by us and by the gguf package, and what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from gemcut.checkpoint.importance import Importance, read_importance, write_importance
from gemcut.config import DecoderConfig
from gemcut.config.parameters import EMBEDDING, parameter_shapes
from gemcut.errors import CheckpointError

DOWN = "model.layers.0.mlp.down_proj.weight"


@pytest.fixture
def config(configs: dict[str, DecoderConfig]) -> DecoderConfig:
    return configs["gemma3"]


def sums_of(config: DecoderConfig, seed: int = 1) -> dict[str, np.ndarray]:
    rng, shapes = np.random.default_rng(seed), parameter_shapes(config)
    return {name: rng.lognormal(0, 2, shape[1]).astype(np.float32) for name, shape in shapes.items() if len(shape) == 2}


def write_entries(path: Path, entries: dict[str, np.ndarray], general_type: str | None = "imatrix") -> Path:
    """A file as llama-imatrix writes it, by the gguf package."""
    writer = gguf.GGUFWriter(path, arch="none")
    if general_type:
        writer.add_type(general_type)
    writer.add_array("imatrix.datasets", ["text"])
    for name, values in entries.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_written_sums_are_read_as_means(tmp_path: Path, config: DecoderConfig) -> None:
    sums = sums_of(config)
    importance = Importance(sums, num_tokens=1024, window_tokens=512, text="book.txt")
    write_importance(tmp_path / "i.gguf", importance, config)
    read = read_importance(tmp_path / "i.gguf", config)
    assert read.keys() == sums.keys()
    for name, values in importance.mean_squares().items():
        assert np.array_equal(read[name], values)
        assert np.array_equal(values, sums[name] / np.float32(1024))


def test_gguf_package_finds_llama_cpps_names(tmp_path: Path, config: DecoderConfig) -> None:
    sums = sums_of(config)
    write_importance(tmp_path / "i.gguf", Importance(sums, 1024, 512, "book.txt"), config)
    reader = gguf.GGUFReader(tmp_path / "i.gguf")
    facts = {key: reader.fields[key].contents() for key in reader.fields if not key.startswith("GGUF.")}
    assert facts == {
        "general.type": "imatrix",
        "imatrix.datasets": ["book.txt"],
        "imatrix.chunk_count": 2,
        "imatrix.chunk_size": 512,
    }
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    assert len(tensors) == 2 * len(sums)
    assert np.array_equal(tensors["blk.0.ffn_down.weight.in_sum2"], sums[DOWN])
    assert tensors["blk.0.ffn_down.weight.counts"] == [1024]


def test_file_of_the_peer_is_read(tmp_path: Path, config: DecoderConfig) -> None:
    width = config.hidden_size
    entries = {
        "blk.1.attn_q.weight.in_sum2": np.arange(width, dtype=np.float32).reshape(1, width),
        "blk.1.attn_q.weight.counts": np.full((1, 1), 4, np.float32),
        "output.weight.in_sum2": np.ones((1, width), np.float32),  # a tied head, which the model has as its embedding
        "output.weight.counts": np.full((1, 1), 2, np.float32),
    }
    read = read_importance(write_entries(tmp_path / "p.gguf", entries), config)
    assert read.keys() == {"model.layers.1.self_attn.q_proj.weight", EMBEDDING}
    assert np.array_equal(read["model.layers.1.self_attn.q_proj.weight"], np.arange(width, dtype=np.float32) / 4)
    assert set(read[EMBEDDING]) == {0.5}


def entry(name: str, values: Any, count: float = 4) -> dict[str, np.ndarray]:
    return {f"{name}.in_sum2": np.array(values, np.float32), f"{name}.counts": np.full(1, count, np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda width: entry("blk.99.attn_q.weight", [1.0] * width), '"blk.99.attn_q.weight" is no tensor of this mod'),
        (lambda width: entry("blk.0.attn_q.weight", [1.0]), r"\(1,\), expected [0-9]+ numbers in F32. Calibrate this"),
        (lambda width: {"blk.0.attn_q.weight.in_sum2": np.ones(width, np.float32)}, "has no counts beside it"),
        (lambda width: entry("blk.0.attn_q.weight", [-1.0] * width), "sums that are negative or not finite, or counts"),
        (lambda width: entry("blk.0.attn_q.weight", [np.nan] * width), "sums that are negative or not finite"),
        (lambda width: entry("blk.0.attn_q.weight", [1.0] * width, count=0), "or counts no tokens. Calibrate again"),
    ],
    ids=["other model", "width", "no counts", "negative", "nan", "no tokens"],
)
def test_sums_that_do_not_fit_are_named(
    tmp_path: Path, config: DecoderConfig, change: Callable[[int], dict[str, np.ndarray]], message: str
) -> None:
    path = write_entries(tmp_path / "bad.gguf", change(config.hidden_size))
    with pytest.raises(CheckpointError, match=message):
        read_importance(path, config)


def test_another_gguf_file_is_told(tmp_path: Path, config: DecoderConfig) -> None:
    path = write_entries(tmp_path / "model.gguf", entry("a", [1.0]), general_type="model")
    with pytest.raises(CheckpointError, match="general.type is 'model', expected \"imatrix\". Make an importance file"):
        read_importance(path, config)
