"""The real starter model writes what transformers writes with the same weights in float32, on every backend."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.numpy

import gemcut
from gemcut.checkpoint import open_checkpoint
from gemcut.config import config_to_hf
from gemcut.generate.load import tokenizer_of
from gemcut.text.sentencepiece_proto import write_model

pytestmark = pytest.mark.backend
GOLDEN = json.loads(
    (Path(__file__).resolve().parents[1] / "golden" / "starter_greedy.json").read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def lm(starter_path, engine, tmp_path_factory):
    """The starter computed in float32; the native engine gets its weights in a float32 file to do so."""
    path = write_float32(starter_path, tmp_path_factory.mktemp("starter")) if engine == "native" else starter_path
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gemcut.checkpoint.load.MIN_LAYOUT_BYTES", 1 << 62)  # nothing for the user's cache
        lm = gemcut.load(path, engine=engine, dtype="float32")
    yield lm
    lm.close()
    if path != starter_path:
        shutil.rmtree(path)


def write_float32(starter_path, folder):
    """The starter's dequantised weights as Hugging Face has them, 1.07 GB, with the tokenizer of the GGUF file."""
    with open_checkpoint(starter_path) as checkpoint:
        config = checkpoint.config
        tensors = {name: tensor.read("float32") for name, tensor in checkpoint.tensors.items()}
        tokenizer = tokenizer_of(checkpoint)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config_to_hf(config)), encoding="utf-8")
    (folder / "tokenizer.model").write_bytes(write_model(tokenizer._model))
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}  # ids of these are not the usual ones
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    return folder


@pytest.mark.parametrize("answer", GOLDEN["answers"], ids=lambda answer: answer["prompt"][:11].strip())
def test_greedy_text_is_that_of_transformers(lm, answer):
    assert answer["least_margin"] > 1e-3  # no logit is so near the best that rounding could decide
    done = lm.generate(answer["prompt"], max_tokens=answer["max_tokens"])
    assert lm.tokenizer.encode(answer["prompt"]) == answer["prompt_ids"]
    assert (done.token_ids, done.text) == (answer["token_ids"], answer["text"])
    assert done.usage["completion_tokens"] == answer["max_tokens"]
