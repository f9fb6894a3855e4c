"""Cut and flipped at random, a file gives a valid checkpoint or a named error, quickly; never anything else."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemcut.checkpoint import open_checkpoint
from gemcut.config import DecoderConfig
from gemcut.errors import GemcutError

Make = Callable[..., Any]
MAX_MEMORY_BYTES = 64 * 2**20
positions = st.integers(0, 2**30)
flips = st.lists(st.tuples(positions, st.integers(0, 255)), max_size=4)


def check(path: Path, config: DecoderConfig | None) -> None:
    """Open and read everything, within the memory that a small file may take."""
    problem: GemcutError | None = None
    tracemalloc.start()
    try:
        with open_checkpoint(path, config) as checkpoint:
            for tensor in checkpoint.tensors.values():
                tensor.read("bfloat16")
    except GemcutError as error:
        problem = error
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < MAX_MEMORY_BYTES
    assert problem is None or problem.exit_code in (3, 4), problem
    assert len(str(problem)) < 2000, problem


def damage_and_check(path: Path, begin: int, end: int, *, opened: Path | None = None, config: Any = None) -> None:
    """Overwrite bytes from `begin` to `end` and cut the file, in many ways, and open it each time."""
    data = path.read_bytes()

    @settings(max_examples=150, deadline=2000, derandomize=True, database=None)
    @given(flips, st.none() | positions)
    def damaged(changes: list[tuple[int, int]], length: int | None) -> None:
        changed = bytearray(data)
        for position, value in changes:
            changed[begin + position % (end - begin)] = value
        path.write_bytes(changed if length is None else changed[: length % len(changed)])
        check(opened or path, config)

    damaged()


def test_safetensors(configs: Any, random_weights: Make, write_hf: Make) -> None:
    folder = write_hf(configs["gemma"], random_weights(configs["gemma"]))
    path = folder / "model.safetensors"
    header_bytes = int.from_bytes(path.read_bytes()[:8], "little")
    damage_and_check(path, 0, 8 + header_bytes)


def test_gguf(configs: Any, random_weights: Make, write_gguf: Make) -> None:
    path = write_gguf(configs["gemma"], random_weights(configs["gemma"]), "Q8_0")
    damage_and_check(path, 0, 5000)


def test_torch(configs: Any, random_weights: Make, tmp_path: Path) -> None:
    weights = {name: torch.from_numpy(values) for name, values in random_weights(configs["gemma"]).items()}
    torch.save(weights, tmp_path / "m.ckpt")
    damage_and_check(tmp_path / "m.ckpt", 0, 3000, config=configs["gemma"])


def test_torch_directory(configs: Any, random_weights: Make, tmp_path: Path) -> None:
    weights = {name: torch.from_numpy(values) for name, values in random_weights(configs["gemma"]).items()}
    torch.save(weights, tmp_path / "m.ckpt")
    num_bytes = (tmp_path / "m.ckpt").stat().st_size
    damage_and_check(tmp_path / "m.ckpt", num_bytes - 2000, num_bytes, config=configs["gemma"])


def test_config(configs: Any, random_weights: Make, write_hf: Make) -> None:
    path = write_hf(configs["gemma3"], random_weights(configs["gemma3"])) / "config.json"
    damage_and_check(path, 0, path.stat().st_size, opened=path.parent)
