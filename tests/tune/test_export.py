"""What comes out of a run works on every engine: as an adapter, merged into a folder, merged into a GGUF file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from training import recipe_of

import gemcut
from gemcut.checkpoint import convert, open_checkpoint
from gemcut.checkpoint.adapter import read_adapter
from gemcut.config.parameters import parameter_shapes
from gemcut.errors import UsageError
from gemcut.hub import check_duties, licence_of
from gemcut.tune.export import export_adapter, export_model

RANK, ALPHA = 3, 5.0
PROMPT = [2, 17, 300, 45, 9, 211]
TOLERANCE = 2e-4  # the native engine adds in another order, and merged weights are rounded once


@pytest.fixture(scope="module")
def base(tmp_path_factory, write_tiny_model):
    return write_tiny_model(tmp_path_factory.mktemp("base") / "our-model")


def updates_of(config):
    """Factors as a run of LoRA on two kinds of matrices has them."""
    from gemcut.interfaces import LowRankUpdate

    generator, shapes = np.random.default_rng(8), parameter_shapes(config)
    return {
        name: LowRankUpdate(
            generator.standard_normal((RANK, shapes[name][1]), dtype=np.float32) / 4,
            generator.standard_normal((shapes[name][0], RANK), dtype=np.float32) / 4,
            ALPHA / RANK,
        )
        for name in shapes
        if name.endswith(("v_proj.weight", "up_proj.weight"))
    }


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "adapter"
    recipe = recipe_of(model="our-model", lora={"rank": RANK, "alpha": ALPHA, "targets": ["v_proj", "up_proj"]})
    with open_checkpoint(base) as checkpoint:
        export_adapter(folder, updates_of(checkpoint.config), checkpoint, recipe, "10 steps on chats.jsonl")
    return folder


def answers_of(path, engine, **options):
    """Logits of a prompt, and what a greedy choice makes of it."""
    model = gemcut.load(path, engine=engine, dtype="float32", **options)
    logits, completion = model.logits(PROMPT), model.generate(PROMPT, max_tokens=8)
    model.close()
    return logits, completion.token_ids


@pytest.mark.backend
def test_the_adapter_and_the_merged_models_answer_alike(base, adapter, engine, tmp_path):
    convert(base, tmp_path / "merged", "hf", adapter=adapter)
    convert(base, tmp_path / "merged.gguf", "gguf", adapter=adapter)
    plain, _ = answers_of(base, engine)
    logits, token_ids = answers_of(base, engine, adapter=adapter)
    assert np.abs(logits - plain).max() > 0.5
    for path in (tmp_path / "merged", tmp_path / "merged.gguf"):
        found, found_ids = answers_of(path, engine)
        np.testing.assert_allclose(found, logits, rtol=0, atol=TOLERANCE)
        assert found_ids == token_ids


def test_the_adapter_is_what_peft_expects(adapter, base):
    settings = json.loads((adapter / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["base_model_name_or_path"]) == (RANK, ALPHA, "our-model")
    assert settings["target_modules"] == [
        f"layers.{layer}.{name}" for layer in (0, 1) for name in ("mlp.up_proj", "self_attn.v_proj")
    ]
    with open_checkpoint(base) as checkpoint:
        read = read_adapter(adapter, checkpoint)
        for name, update in updates_of(checkpoint.config).items():
            assert np.array_equal(read.updates[name].b, update.b)
    card = (adapter / "README.md").read_text()
    assert "library_name: peft" in card
    assert "LoRA of rank 3, alpha 5, on v_proj, up_proj." in card
    assert "Made with Gemcut: 10 steps on chats.jsonl." in card


def gemma_source(write_tiny_model, folder):
    """A model that says that it was made from a published Gemma."""
    path = write_tiny_model(folder / "source")
    (path / "README.md").write_text("---\nbase_model: google/gemma-3-270m\nlicense: gemma\n---\n")
    return path


def test_what_the_licence_asks_for_lies_beside_the_adapter(tmp_path, write_tiny_model):
    with open_checkpoint(gemma_source(write_tiny_model, tmp_path)) as checkpoint:
        export_adapter(tmp_path / "out", updates_of(checkpoint.config), checkpoint, recipe_of(), "10 steps on x.jsonl")
    assert json.loads((tmp_path / "out/adapter_config.json").read_text())["base_model_name_or_path"] == (
        "google/gemma-3-270m"
    )
    changes = (tmp_path / "out" / "MODIFICATIONS.md").read_text()
    assert "- a LoRA adapter for it was trained: 10 steps on x.jsonl (Gemcut " in changes
    assert "Gemma is provided under" in (tmp_path / "out" / "Notice").read_text()
    duties = {duty.name: duty.met for duty in check_duties(tmp_path / "out", licence_of(tmp_path / "out"))}
    assert duties.pop("licence known")
    assert all(met for name, met in duties.items() if name != "copy of the licence"), duties


def test_all_weights_as_a_folder(tmp_path, write_tiny_model):
    with open_checkpoint(gemma_source(write_tiny_model, tmp_path)) as checkpoint:
        trained = {name: tensor.read("float32") + 1 for name, tensor in checkpoint.tensors.items()}
        for _ in range(2):  # a second export replaces the first
            export_model(tmp_path / "model", trained, checkpoint, "10 steps on x.jsonl")
    with open_checkpoint(tmp_path / "model") as written:
        for name, tensor in written.tensors.items():
            assert np.array_equal(tensor.read("float32"), trained[name]), name
    assert "- all weights were trained: 10 steps on x.jsonl" in (tmp_path / "model" / "MODIFICATIONS.md").read_text()
    assert (tmp_path / "model" / "tokenizer.model").is_file()


def test_another_folder_is_not_replaced(tmp_path, base):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "diary.txt").write_text("dear")
    with open_checkpoint(base) as checkpoint:
        trained = {name: tensor.read("float32") for name, tensor in checkpoint.tensors.items()}
        with pytest.raises(UsageError, match="holds other things than a model"):
            export_model(tmp_path / "model", trained, checkpoint, "1 step")
