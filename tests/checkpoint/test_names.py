"""Name tables against the names that transformers and the gguf package use."""

from __future__ import annotations

import re
import subprocess
import sys

import gguf
import pytest
import torch
import transformers

from gemcut.checkpoint.names import Transform, place_tensors, target_placements
from gemcut.config import PUBLISHED, DecoderConfig, config_from_hf, config_to_hf
from gemcut.config.parameters import parameter_shapes

ARCHITECTURES = {"gemma3_text": "GEMMA3", "gemma2": "GEMMA2", "gemma": "GEMMA"}
SIZES = sorted({model.config.num_hidden_layers: name for name, model in PUBLISHED.items()}.values())


def gguf_names(config: DecoderConfig) -> list[str]:
    architecture = gguf.MODEL_ARCH[ARCHITECTURES.get(config.model_type, "LLAMA")]
    table = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    return [str(table.get_name(name, try_suffixes=(".weight",))) for name in parameter_shapes(config)]


@pytest.mark.parametrize("name", SIZES)
def test_every_name_of_every_published_size(name: str) -> None:
    config = PUBLISHED[name].config
    wanted = list(parameter_shapes(config))
    for naming, names in (("hf", wanted), ("gguf", gguf_names(config))):
        placements, unused = place_tensors(names, naming, config, "m")
        assert list(placements) == wanted
        assert [place.source for place in placements.values()] == names
        assert not unused


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("naming", ["hf", "gguf"])
def test_writing_undoes_reading(naming: str, name: str) -> None:
    config = PUBLISHED[name].config
    names = list(parameter_shapes(config)) if naming == "hf" else gguf_names(config)
    assert target_placements(naming, config) == place_tensors(names, naming, config, "m")[0]


def test_what_gguf_stores_otherwise() -> None:
    def transforms(name: str) -> dict[Transform, set[str]]:
        config = PUBLISHED[name].config
        found: dict[Transform, set[str]] = {}
        for place in place_tensors(gguf_names(config), "gguf", config, "m")[0].values():
            found.setdefault(place.transform, set()).add(re.sub(r"blk\.\d+\.", "", place.source))
        del found[Transform.NONE]
        return found

    norms = {"attn_norm.weight", "ffn_norm.weight", "output_norm.weight"}
    post_norms = {"post_attention_norm.weight", "post_ffw_norm.weight"}
    head_norms = {"attn_q_norm.weight", "attn_k_norm.weight"}
    pairs = {Transform.UNPERMUTE_QUERY: {"attn_q.weight"}, Transform.UNPERMUTE_KEY: {"attn_k.weight"}}
    assert transforms("gemma-2b") == {Transform.MINUS_ONE: norms}
    assert transforms("gemma-2-2b") == {Transform.MINUS_ONE: norms | post_norms}
    assert transforms("gemma-3-270m") == {Transform.MINUS_ONE: norms | post_norms | head_norms}
    assert transforms("llama-2-7b") == transforms("mistral-7b-v0.1") == pairs


@pytest.mark.parametrize("model_class", ["Gemma3ForConditionalGeneration", "Gemma3Model", "Gemma3ForCausalLM"])
def test_names_of_transformers_models(model_class: str) -> None:
    text = {
        "num_hidden_layers": 3,
        "hidden_size": 64,
        "intermediate_size": 32,
        "num_attention_heads": 4,
        "head_dim": 16,
    }
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Gemma3Config(
        text_config=text,
        vision_config=vision | {"image_size": 28, "patch_size": 14, "model_type": "siglip_vision_model"},
    )
    part = config.text_config if model_class.endswith("CausalLM") else config
    with torch.device("meta"):
        names = list(getattr(transformers, model_class)(part).state_dict())
    decoder = config_from_hf(config.to_dict(), "config.json")
    placements, unused = place_tensors(names, "hf", decoder, "m")
    assert set(placements) == set(parameter_shapes(decoder))
    assert {reason for _, reason in unused} <= {
        "part of the vision tower",
        "part of the vision projector",
        "a copy of the embedding, which is the output head",
    }
    assert config_to_hf(decoder)["num_hidden_layers"] == 3


def test_opening_needs_no_framework() -> None:
    code = (
        "import sys, gemcut.checkpoint, gemcut.quantize, gemcut.config\n"
        "print(sorted({'torch', 'jax', 'tensorflow', 'keras', 'gguf', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
