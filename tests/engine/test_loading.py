"""`gemcut.load(engine="native")`: what it imports, how long it takes, which files it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

import gemcut
from gemcut.checkpoint import open_checkpoint
from gemcut.engine import NativeCheckpoint
from gemcut.errors import BackendError, CheckpointError, ConfigError, NotFoundError

pytestmark = pytest.mark.native
HEAVY = ("keras", "jax", "torch", "tensorflow", "transformers", "tokenizers", "huggingface_hub", "safetensors", "gguf")

CHILD = """
import json, sys, time
import gemcut
begin = time.perf_counter()
lm = gemcut.load(sys.argv[1])
seconds = time.perf_counter() - begin
text = lm.generate("The capital of France is", max_tokens=4).text
print(json.dumps([lm.engine, seconds, text, sorted(sys.modules)]))
"""


def load_in_child(path):
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(child.stdout.splitlines()[-1])


def test_automatic_engine_loads_without_any_framework(tiny_folder):
    engine, _, text, modules = load_in_child(tiny_folder)
    assert engine == "native"
    assert text
    assert not set(HEAVY) & set(modules)


def test_starter_loads_at_once(starter_path):
    load_in_child(starter_path)  # keeps the packed weights
    engine, seconds, text, modules = load_in_child(starter_path)
    assert (engine, text) == ("native", " the capital of the")
    assert not set(HEAVY) & set(modules)
    assert seconds < 2.0  # 0.5 s on an idle machine, where `make bench-engine` measures it; tests share theirs


@pytest.fixture
def torch_folder(tiny_folder, tmp_path):
    """The tiny model as a PyTorch checkpoint."""
    folder = tmp_path / "torch"
    folder.mkdir()
    with open_checkpoint(tiny_folder) as checkpoint:
        weights = {name: torch.from_numpy(tensor.read().copy()) for name, tensor in checkpoint.tensors.items()}
    torch.save(weights, folder / "pytorch_model.bin")
    for name in ("config.json", "tokenizer.model"):
        (folder / name).write_bytes((tiny_folder / name).read_bytes())
    return folder


def test_pytorch_files_are_for_other_engines(torch_folder):
    message = 'is a PyTorch checkpoint, which engine "native" does not read; expected GGUF or safetensors'
    with pytest.raises(BackendError, match=message):
        gemcut.load(torch_folder, engine="native")


def test_automatic_engine_for_pytorch_files_is_a_keras_engine(torch_folder):
    from gemcut.generate.load import engine_for

    assert engine_for(torch_folder, "auto") in ("jax", "tensorflow", "torch")
    assert engine_for(torch_folder, "native") == "native"


def test_configuration_is_that_of_python(tiny_folder, starter_path):
    for path in (tiny_folder, starter_path):
        with NativeCheckpoint(path) as native, open_checkpoint(path) as python:
            assert native.config == python.config
            found = {tensor.name: tensor.type for tensor in native.handle.tensors}
            assert found == {name: tensor.stored_type for name, tensor in python.tensors.items()}


def test_generation_config_is_that_of_python(write_tiny_model, tmp_path, starter_path):
    from gemcut.checkpoint.native import generation_config_of

    folder = write_tiny_model(tmp_path / "tuned")
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": True, "top_k": 64}))
    for path in (folder, starter_path):
        with NativeCheckpoint(path) as native, open_checkpoint(path) as python:
            assert generation_config_of(native) == python.generation_config


def test_tokenizer_json_alone_is_read_by_python(write_tiny_model, tmp_path, tiny_folder):
    folder = write_tiny_model(tmp_path / "json")
    lm = gemcut.load(tiny_folder, engine="native")
    (folder / "tokenizer.model").unlink()
    with pytest.raises(NotFoundError, match="holds no tokenizer, expected tokenizer.model or tokenizer.json"):
        gemcut.load(folder, engine="native")
    lm.close()


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), NotFoundError, "config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), ConfigError, "config.json"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 8),
            CheckpointError,
            "model.safetensors",
        ),
        (lambda folder: os.truncate(folder / "model.safetensors", 5000), CheckpointError, "model.safetensors"),
    ],
    ids=["no-config", "broken-config", "broken-weights", "cut-weights"],
)
def test_errors_are_gemcuts_own(write_tiny_model, tmp_path, damage, error, message):
    folder = write_tiny_model(tmp_path / "model")
    damage(folder)
    with pytest.raises(error, match=message):
        gemcut.load(folder, engine="native")


def test_numbers_stand_in_messages_whatever_else_is_loaded(write_tiny_model, tmp_path):
    """The module's own libstdc++ must not meet the one that other modules load: streams would write no numbers."""
    import sentencepiece

    assert sentencepiece.__version__
    folder = write_tiny_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 500}))
    with pytest.raises(CheckpointError, match=r"\(704, 32\), expected \(500, 32\)"):
        gemcut.load(folder, engine="native")
