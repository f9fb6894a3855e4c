"""An adapter that was trained to chat brings its template: the model talks, beside it and merged with it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gemcut
from gemcut.checkpoint import open_checkpoint
from gemcut.checkpoint.adapter import Adapter, adapter_template, read_adapter, write_adapter
from gemcut.checkpoint.convert import convert
from gemcut.errors import CheckpointError
from gemcut.interfaces import LowRankUpdate

TEMPLATE = "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }} {% endfor %}"
NAME = "model.layers.0.self_attn.o_proj.weight"
VALUES = np.random.default_rng(2).standard_normal((3, 64), dtype=np.float32)


@pytest.fixture
def parts(tmp_path, write_tiny_model):
    """A base model's folder, and that of an adapter with a template."""
    base, folder = write_tiny_model(tmp_path / "tiny"), tmp_path / "adapter"
    folder.mkdir()
    update = LowRankUpdate(VALUES, np.ones((32, 3), np.float32) / 3, 0.5)
    write_adapter(folder, Adapter({NAME: update}), "bfloat16")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return base, folder


def test_factors_are_rounded_once_to_what_the_file_has(parts):
    base, folder = parts
    with open_checkpoint(base) as checkpoint:
        a = read_adapter(folder, checkpoint).updates[NAME].a
    assert (folder / "adapter_model.safetensors").stat().st_size < 2 * (VALUES.size + 32 * 3) + 400
    assert a.dtype == np.float32
    assert np.abs(a - VALUES).max() <= np.abs(VALUES).max() / 256
    assert (a != VALUES).any()


@pytest.mark.native
def test_beside_the_weights_it_talks(parts):
    base, folder = parts
    assert not gemcut.load(base, engine="native").is_instruction_tuned
    model = gemcut.load(base, engine="native", adapter=folder)
    assert model.is_instruction_tuned
    assert model.template.source == TEMPLATE
    assert model.template.render([{"role": "user", "content": "hi"}]).endswith("[user] hi ")
    model.close()


@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_a_merged_model_has_the_template(parts, tmp_path, to):
    base, folder = parts
    target = tmp_path / ("merged.gguf" if to == "gguf" else "merged")
    report = convert(base, target, to=to, adapter=folder)
    assert "The chat template is the adapter's." in report.notes
    if to == "gguf":
        with open_checkpoint(target) as checkpoint:
            assert checkpoint.gguf_metadata["tokenizer.chat_template"] == TEMPLATE
        return
    assert (target / "chat_template.jinja").read_text() == TEMPLATE
    ends = json.loads((target / "generation_config.json").read_text())["eos_token_id"]
    with open_checkpoint(target) as checkpoint:
        tokenizer = gemcut.text.load_tokenizer(checkpoint.tokenizer_files)
    assert tokenizer.special_tokens["<end_of_turn>"] in ends


def test_without_one_there_is_none(parts):
    base, folder = parts
    (folder / "chat_template.jinja").unlink()
    assert adapter_template(folder) is None


def test_one_that_is_no_text_is_named(parts):
    base, folder = parts
    (folder / "chat_template.jinja").write_bytes(b"{{ \xff }}")
    with pytest.raises(CheckpointError, match=r"chat_template.jinja: byte 4 is not UTF-8, expected a Jinja template"):
        adapter_template(folder)
