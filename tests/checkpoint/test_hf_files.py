"""Folders of ours as transformers loads them: the same logits, the same ids, the same settings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from gemcut.checkpoint import convert
from gemcut.hub.model_card import read_model_card
from gemcut.inspect import check_licence
from gemcut.text import load_tokenizer

TOKEN_IDS = [[2, 5, 9, 70, 33, 14, 80, 3, 21, 64, 11, 7]]  # beyond the window of 8


def logits(folder: Path) -> np.ndarray:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        found: np.ndarray = model(torch.tensor(TOKEN_IDS)).logits.numpy()
    return found


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3", "llama", "mistral"])
def test_transformers_gives_the_same_logits(
    family: str, configs: Any, random_weights: Any, write_hf: Any, tmp_path: Path
) -> None:
    source = write_hf(configs[family], random_weights(configs[family]))
    convert(source, tmp_path / "m.gguf", "gguf")
    convert(tmp_path / "m.gguf", tmp_path / "back", "hf", shard_bytes=20_000)
    assert np.array_equal(logits(tmp_path / "back"), logits(source))


def test_config_names_the_type_of_the_matrices(
    configs: Any, random_weights: Any, write_hf: Any, tmp_path: Path
) -> None:
    convert(write_hf(configs["gemma"], random_weights(configs["gemma"])), tmp_path / "m.gguf", "gguf", type="BF16")
    convert(tmp_path / "m.gguf", tmp_path / "back", "hf")
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert (config["dtype"], config["torch_dtype"], config["model_type"]) == ("bfloat16", "bfloat16", "gemma")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back", dtype="auto")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_settings_and_tokenizer_survive_gguf(write_tiny_model: Any, tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "a", eos_token_ids=(1, 5))
    sampling = {"do_sample": True, "temperature": 0.75, "top_k": 64, "top_p": 0.5}
    (source / "generation_config.json").write_text(json.dumps(sampling | {"eos_token_id": [1, 5]}))
    (source / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": "{{ bos_token }}", "bos_token": "<bos>"})
    )
    convert(source, tmp_path / "b.gguf", "gguf")
    report = convert(tmp_path / "b.gguf", tmp_path / "c", "hf")
    settings = json.loads((tmp_path / "c" / "generation_config.json").read_text())
    assert settings == sampling | {"bos_token_id": 2, "eos_token_id": [1, 5], "pad_token_id": 0}
    before, after = load_tokenizer(source), load_tokenizer(tmp_path / "c")
    assert (after.digest(), after.chat_template, after.vocab_size) == (before.digest(), "{{ bos_token }}", 700)
    assert [name for name, _ in report.made] == [
        "tokenizer.model",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ]
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "c")
    assert theirs("Hello  you")["input_ids"] == before.encode("Hello  you")


def test_the_sources_own_files_are_copied(write_tiny_model: Any, tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "a")
    texts = {"tokenizer_config.json": '{ "bos_token" : "<bos>" }', "chat_template.jinja": "{{ bos_token }}"}
    for name, text in texts.items():
        (source / name).write_text(text)
    report = convert(source, tmp_path / "b", "hf", type="BF16")
    for name in ("tokenizer.model", *texts):
        assert (tmp_path / "b" / name).read_bytes() == (source / name).read_bytes()
    assert [name for name, _ in report.made] == ["tokenizer.json", "special_tokens_map.json"]
    assert all(reason == "from the source's vocabulary and settings" for _, reason in report.made)


@pytest.mark.parametrize("base", ["google/gemma-3-270m", None], ids=["known", "unknown"])
def test_model_card_names_licence_and_base(base: str | None, write_tiny_model: Any, tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "a")
    if base:
        (source / "README.md").write_text(f"---\nbase_model: {base}\n---\n")
    report = convert(source, tmp_path / "b.gguf", "gguf")
    convert(tmp_path / "b.gguf", tmp_path / "c", "hf")
    card = read_model_card(tmp_path / "c")
    assert card["library_name"] == ["transformers"]
    assert card.get("base_model") == ([base] if base else None)
    assert card.get("license") == (["gemma"] if base else None)
    assert (report.base, report.licence) == (base, "Gemma Terms of Use" if base else None)


def test_licence_duties_go_along(write_tiny_model: Any, tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "a")
    (source / "README.md").write_text("---\nbase_model: google/gemma-3-270m\n---\n")
    convert(source, tmp_path / "b.gguf", "gguf", type="BF16")
    notice = (tmp_path / "b.gguf.Notice.txt").read_text()
    assert "subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms" in notice
    convert(tmp_path / "b.gguf", tmp_path / "c", "hf")
    changes = (tmp_path / "c" / "MODIFICATIONS.md").read_text()
    assert "converted from hf (F32) to gguf (BF16, F32)" in changes
    assert "converted from gguf (BF16, F32) to hf (BF16, F32)" in changes
    assert "Gemma Terms of Use" in (tmp_path / "c" / "Notice").read_text()
    shutil.rmtree(tmp_path / "c")
    convert(source, tmp_path / "c", "hf")
    assert "written anew as hf (F32), every number unchanged" in (tmp_path / "c" / "MODIFICATIONS.md").read_text()
    assert next(d for d in check_licence(tmp_path / "c")["duties"] if d["name"] == "record of changes")["met"]
