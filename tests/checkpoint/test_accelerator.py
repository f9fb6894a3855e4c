"""An accelerator counts when its device is there and an installed framework has kernels for it."""

from __future__ import annotations

import importlib.metadata

import pytest

from gemcut.checkpoint import accelerator
from gemcut.checkpoint.accelerator import has_accelerator


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with the given device files and packages."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def make(devices, packages):
        for device in devices:
            (tmp_path / device).parent.mkdir(exist_ok=True)
            (tmp_path / device).touch()

        def version(name):
            if name not in packages:
                raise importlib.metadata.PackageNotFoundError(name)
            return "1"

        monkeypatch.setattr(accelerator, "DEVICE_FOLDER", tmp_path)
        monkeypatch.setattr(importlib.metadata, "version", version)

    return make


@pytest.mark.parametrize(
    ("devices", "packages", "engines", "expected"),
    [
        (["nvidia0"], ["jax-cuda12-plugin"], ["jax", "torch"], True),
        (["nvidia0"], ["nvidia-cudnn-cu13"], ["torch"], True),
        (["nvidia0"], [], ["jax", "tensorflow", "torch"], False),
        (["nvidia0"], ["jax-cuda12-plugin"], ["torch"], False),
        ([], ["jax-cuda12-plugin"], ["jax"], False),
        (["vfio/0"], ["libtpu"], ["jax"], True),
        (["kfd"], ["jax-cuda12-plugin"], ["jax"], False),
    ],
    ids=["jax-cuda", "torch-cuda", "cpu-builds", "another-engine", "no-device", "tpu", "other-make"],
)
def test_device_and_package_belong_together(machine, devices, packages, engines, expected):
    machine(devices, packages)
    assert has_accelerator(engines) is expected


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_devices_do_not_count(machine, monkeypatch, hidden):
    machine(["nvidia0"], ["jax-cuda12-plugin"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not has_accelerator(["jax"])
