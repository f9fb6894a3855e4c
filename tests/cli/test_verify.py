"""`gemcut verify` prints the verdict first and ends with it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy

from gemcut.checkpoint.adapter import Adapter, write_adapter
from gemcut.config import FULL_ATTENTION, SLIDING_ATTENTION, RopeParameters
from gemcut.interfaces import LowRankUpdate

QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def pair(write_tiny_model, tmp_path):
    """Two folders of the tiny model."""
    return [str(write_tiny_model(tmp_path / name)) for name in "ab"]


def rewrite(folder: str, change) -> None:
    path = f"{folder}/model.safetensors"
    weights = {name: change(name, values) for name, values in safetensors.numpy.load_file(path).items()}
    safetensors.numpy.save_file({name: values for name, values in weights.items() if values is not None}, path)


def test_adapter_is_told_beside_the_model(invoke, pair, tmp_path):
    a, b = np.ones((1, 32), np.float32), np.ones((64, 1), np.float32)
    write_adapter(tmp_path, Adapter({QUERY: LowRankUpdate(a, b, 0.5)}))
    result = invoke("verify", *pair, "--tensors-only", "--adapter", str(tmp_path))
    assert result.exit_code == 1
    words = " ".join(result.stdout.split())
    assert f"A {pair[0]} with the adapter {tmp_path} (hf)" in words
    assert f"B {pair[1]} (hf)" in words


@pytest.mark.native
def test_same_model_ends_with_0(invoke, pair):
    result = invoke("verify", *pair, "--engine", "native", "--dtype", "float32", "--tokens", "60")
    assert result.exit_code == 0
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert lines[0] == ["verdict", "same"]
    words = " ".join(result.stdout.split())
    for part in (
        f"A {pair[0]} (hf, native in float32)",
        "tokenizer the same ids on every line of the text",
        "config the same",
        "F32 and F32 29 the same",
        "largest errors none: every value is equal",
        "positions 60",
        "same top token 100.00%",
        "+0.000%",
    ):
        assert part in words
    assert result.stderr == ""


def test_rounded_model_lists_the_largest_errors(invoke, pair):
    rewrite(pair[1], lambda name, values: values.astype(np.float16))
    result = invoke("verify", *pair, "--tensors-only")
    words = " ".join(result.stdout.split())
    assert result.exit_code == 0
    assert words.startswith("verdict same within F16's precision")
    assert "F32 and F16 29 within their types' precision" in words
    assert "types largest relative RMS changed" in words
    assert result.stdout.count("F32, F16") == 10
    assert invoke("verify", *pair, "--tensors-only", "--all").stdout.count("F32, F16") == 29
    assert "logits not computed" in words


def test_different_model_ends_with_1_and_says_why(invoke, pair):
    rewrite(pair[1], lambda name, values: values[::-1].copy() if name == QUERY else values)
    result = invoke("verify", *pair, "--tensors-only")
    assert result.exit_code == 1
    words = " ".join(result.stdout.split())
    assert f"verdict different because 1 tensor with larger errors than types explain, {QUERY} first" in words
    assert "F32 and F32 28 the same, 1 DIFFERENT" in words


def test_other_model_lists_what_cannot_be_compared(invoke, pair, write_tiny_model, tmp_path):
    ropes = tuple((kind, RopeParameters()) for kind in (SLIDING_ATTENTION, FULL_ATTENTION))
    gemma_2 = {"qk_norm": False, "rope_parameters": ropes, "attn_logit_softcapping": 50.0, "model_type": "gemma2"}
    other = write_tiny_model(tmp_path / "other", vocab_size=706, final_logit_softcapping=30.0, **gemma_2)
    words = " ".join(invoke("verify", pair[0], str(other), "--tensors-only").stdout.split())
    assert "qk_norm True in A, False in B" in words
    assert "model_type gemma3_text in A, gemma2 in B; no arithmetic depends on it" in words
    assert "only in A model.layers.0.self_attn.q_norm.weight, " in words
    assert "self_attn.q_norm.weight and 1 more other shapes model.embed_tokens.weight [704, 32] in A, " in words


def test_missing_and_other_tokenizers_are_told(invoke, pair):
    from pathlib import Path

    (Path(pair[1]) / "tokenizer_config.json").write_text('{"add_bos_token": false}', encoding="utf-8")
    words = " ".join(invoke("verify", *pair, "--tensors-only").stdout.split())
    assert "tokenizer other ids, first in 'The lighthouse keeper" in words
    (Path(pair[1]) / "tokenizer.model").unlink()
    assert "not compared: B without one" in " ".join(invoke("verify", *pair, "--tensors-only").stdout.split())


def test_head_of_its_own_is_noted(invoke, pair, write_tiny_model, tmp_path):
    tied = write_tiny_model(tmp_path / "tied", tie_word_embeddings=True)
    words = " ".join(invoke("verify", pair[0], str(tied), "--tensors-only").stdout.split())
    assert "notes the output head of B is its embedding, and is compared as such" in words


def test_json_is_what_the_library_returns(invoke, pair):
    from gemcut.inspect import verify

    result = invoke("verify", *pair, "--tensors-only", "--json")
    assert json.loads(result.stdout) == json.loads(json.dumps(verify(*pair, tensors_only=True)))


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        pytest.param(["nothing-like-it"], 4, "neither a model name nor a file", id="no-such-model"),
        pytest.param(["--text", "nothing.txt"], 4, "nothing.txt: no such file", id="no-such-text"),
        pytest.param(["--tokens", "1"], 2, "--tokens", id="too-few-tokens"),
        pytest.param(["--engine-b", "warp"], 2, "--engine-b", id="no-such-engine"),
    ],
)
def test_mistakes_end_with_their_code(invoke, pair, arguments, exit_code, message):
    others = pair[:1] if arguments[0].startswith("--") is False else pair
    result = invoke("verify", *others, *arguments)
    assert result.exit_code == exit_code
    assert message in result.stderr


def test_damaged_file_ends_with_3(invoke, pair):
    from pathlib import Path

    weights = Path(pair[1]) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    result = invoke("verify", *pair)
    assert result.exit_code == 3
    assert "model.safetensors" in result.stderr
