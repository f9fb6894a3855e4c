"""`calibrate` adds up the squares that the matrices meet, over whole windows of the text."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from gemcut.checkpoint import open_checkpoint
from gemcut.checkpoint.importance import read_importance
from gemcut.checkpoint.load import load_model
from gemcut.config.parameters import OUTPUT_HEAD, parameter_shapes
from gemcut.errors import DataError, UsageError
from gemcut.generate.load import tokenizer_of
from gemcut.inspect import calibrate

module = importlib.import_module("gemcut.inspect.calibrate")  # the package has the function under this name
WORDS = "the planets are cold and far from the sun . "


@pytest.fixture
def model(write_tiny_model, tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(WORDS * 150, encoding="utf-8")
    return path


@pytest.mark.keras
def test_sums_are_those_of_the_model(model: Path, text: Path, tmp_path: Path, engine: str, monkeypatch) -> None:
    monkeypatch.setattr(module, "WINDOW_TOKENS", 64)
    seen = []
    target = tmp_path / "importance.gguf"
    facts = calibrate(model, text, target, engine=engine, num_tokens=140, progress=lambda *facts: seen.append(facts))
    with open_checkpoint(model) as checkpoint:
        config = checkpoint.config
    means = read_importance(target, config)
    matrices = {name for name, shape in parameter_shapes(config).items() if len(shape) == 2}
    assert means.keys() == matrices - {"model.embed_tokens.weight"}
    assert facts == {"target": str(target), "engine": engine, "tokens": 128, "tensors": len(means)}
    assert seen == [("calibrating", 0, 128), ("calibrating", 64, 128)]

    # By hand: the first layer's input from the weights, the head's from the model itself.
    with open_checkpoint(model) as checkpoint:
        ids = tokenizer_of(checkpoint).encode(text.read_text(encoding="utf-8"))
        language_model = load_model(checkpoint, engine, "float32")
    windows = [[ids[0], *ids[1:64]], [ids[0], *ids[64:127]]]
    weights = safetensors.numpy.load_file(model / "model.safetensors")
    x = weights["model.embed_tokens.weight"][np.array(windows)].astype(np.float64) * config.hidden_size**0.5
    x /= np.sqrt((x**2).mean(axis=-1, keepdims=True) + config.rms_norm_eps)
    x *= 1 + weights["model.layers.0.input_layernorm.weight"]
    expected = (x**2).mean(axis=(0, 1))
    for part in "qkv":
        assert np.allclose(means[f"model.layers.0.self_attn.{part}_proj.weight"], expected, rtol=1e-4)
    hidden = np.concatenate([language_model.hidden_states(window) for window in windows])
    assert np.allclose(means[OUTPUT_HEAD], (hidden.astype(np.float64) ** 2).mean(axis=0), rtol=1e-3)
    language_model.close()


@pytest.mark.parametrize(
    ("content", "options", "error", "message"),
    [
        (b"\xff\xfe", {}, DataError, r"book.txt: is not UTF-8 text \(byte 0\). Convert it first"),
        (b"short", {}, DataError, "tokens, expected at least 512. Give a longer text; 20480 are used by default"),
        (b"x", {"num_tokens": 511}, UsageError, "tokens is 511, expected at least 512, one window"),
        (b"x", {"engine": "native"}, UsageError, 'engine is "native", expected jax, torch or tensorflow'),
    ],
    ids=["not utf-8", "short", "few tokens", "native"],
)
def test_what_cannot_be_calibrated_is_named(model, tmp_path, engine, content, options, error, message) -> None:
    (tmp_path / "book.txt").write_bytes(content)
    with pytest.raises(error, match=message):
        calibrate(model, tmp_path / "book.txt", tmp_path / "i.gguf", **options)
    assert not (tmp_path / "i.gguf").exists()
