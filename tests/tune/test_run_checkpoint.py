"""Checkpoints of a run: what is written comes back, the right ones are kept, a full disk spoils none."""

from __future__ import annotations

import contextlib
import resource

import numpy as np
import pytest

from gemcut.errors import CheckpointError, GemcutError
from gemcut.tune.run_checkpoint import CheckpointFolder, RunCheckpoint
from gemcut.tune.train_state import TrainState


def checkpoint_of(step, size=6):
    generator = np.random.default_rng(step)
    trained = {
        "model.layers.0.mlp.up_proj.lora_A": generator.standard_normal((2, size), dtype=np.float32),
        "model.norm.weight": generator.standard_normal(3, dtype=np.float32),
    }
    slots = {
        name: {slot: generator.standard_normal(value.shape, dtype=np.float32) for slot in ("mean", "square")}
        for name, value in trained.items()
    }
    state = TrainState(step, trained, slots)
    return RunCheckpoint(state, {"epoch": 1, "position": step}, {"best_loss": 0.1 + step}, {"recipe": "ab", "seed": 0})


def test_everything_comes_back_bit_for_bit(tmp_path):
    folder, written = CheckpointFolder(tmp_path), checkpoint_of(7)
    assert folder.latest() is None
    path = folder.save(written)
    assert path.name == "step-00000007.safetensors"
    read = folder.latest()
    assert (read.cursor, read.progress, read.facts) == (written.cursor, written.progress, written.facts)
    assert (read.state.step, list(read.state.trained)) == (7, list(written.state.trained))
    for name, values in written.state.trained.items():
        assert np.array_equal(read.state.trained[name], values)
        assert read.state.slots[name].keys() == written.state.slots[name].keys()
        for slot, kept in written.state.slots[name].items():
            assert np.array_equal(read.state.slots[name][slot], kept)


def test_the_newest_and_the_best_are_kept(tmp_path):
    folder = CheckpointFolder(tmp_path, keep_last=2)
    for step in range(1, 6):
        folder.save(checkpoint_of(step), keep=1)
    assert folder.steps() == [1, 4, 5]
    folder.save(checkpoint_of(6))
    assert folder.steps() == [5, 6]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(checkpoint_of(3))
    folder.save(checkpoint_of(3, size=9))
    assert folder.latest().state.trained["model.layers.0.mlp.up_proj.lora_A"].shape == (2, 9)


def test_what_a_killed_run_was_writing_goes(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(checkpoint_of(1))
    (folder.path / f".step-00000002.safetensors.{'0' * 16}.tmp").write_bytes(b"half")
    assert folder.steps() == [1]
    folder.save(checkpoint_of(2))
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "step-00000001.safetensors",
        "step-00000002.safetensors",
    ]


@contextlib.contextmanager
def small_files():
    """Files of this process have 4 KiB at most, as on a full disk; only inside, for pytest's own output may be a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_earlier_checkpoint_intact(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(checkpoint_of(1))
    expected = pytest.raises(
        GemcutError, match=r"step-00000002.* could not be written \(.*\); the one of step 1 is intact"
    )
    with expected, small_files():
        folder.save(checkpoint_of(2, size=5000))
    assert folder.latest().state.step == 1
    assert [path.name for path in folder.path.iterdir()] == ["step-00000001.safetensors"]


def test_a_full_disk_at_the_first_checkpoint(tmp_path):
    expected = pytest.raises(GemcutError, match="there is no earlier one. Free space, then give the same command again")
    with expected, small_files():
        CheckpointFolder(tmp_path).save(checkpoint_of(2, size=5000))


def test_a_damaged_checkpoint_is_named_with_what_to_do(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(checkpoint_of(1))
    path = folder.save(checkpoint_of(2))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"(?s)step-00000002.*cut short.* delete it to go on from step 1"):
        folder.latest()
    path.unlink()
    assert folder.latest().state.step == 1
    folder.file(1).write_bytes(b"no")
    with pytest.raises(CheckpointError, match="Or begin a new run"):
        folder.latest()


def test_another_safetensors_file_is_no_checkpoint(tmp_path):
    import safetensors.numpy

    folder = CheckpointFolder(tmp_path)
    folder.path.mkdir()
    safetensors.numpy.save_file({"a": np.zeros(2, np.float32)}, folder.file(4))
    with pytest.raises(CheckpointError, match="is no checkpoint of a run, or of another version of Gemcut"):
        folder.load(4)
    safetensors.numpy.save_file({"a": np.zeros(2)}, folder.file(4), {"gemcut.run": "1", "gemcut.about": "{}"})
    with pytest.raises(CheckpointError, match='"a" is no float32 tensor of a run'):
        folder.load(4)
