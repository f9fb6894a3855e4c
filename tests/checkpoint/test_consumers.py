"""What each program gets besides the model."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gemcut.checkpoint import convert, open_checkpoint
from gemcut.checkpoint.consumers import CONSUMERS

SIDE_FILES = {
    "transformers": [],
    "vllm": ["serve-vllm.sh"],
    "llama.cpp": [],
    "ollama": ["Modelfile"],
    "nemo": ["automodel_recipe.yaml"],
    "tensorrt-llm": ["run_tensorrt_llm.py"],
}


@pytest.fixture
def source(write_tiny_model: Any, tmp_path: Path) -> Path:
    folder: Path = write_tiny_model(tmp_path / "source", max_position_embeddings=40_000)
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.5, "top_k": 9, "eos_token_id": 1}))
    return folder


def as_chat(source: Path) -> None:
    (source / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ bos_token }}"}))


@pytest.mark.parametrize("name", CONSUMERS)
def test_format_and_side_files_are_chosen(name: str, source: Path, tmp_path: Path) -> None:
    report = convert(source, tmp_path / "out", for_consumer=name)
    assert [file for file, reason in report.made if reason == f"for {name}"] == SIDE_FILES[name]
    assert report.consumer == name
    assert str(tmp_path / "out") in report.notes[-1]
    assert "{" not in report.notes[-1]
    with open_checkpoint(tmp_path / "out") as made:
        assert made.format == CONSUMERS[name].to
    for file in SIDE_FILES[name]:
        assert (tmp_path / "out" / file).is_file()


@pytest.mark.parametrize(
    ("is_chat", "template"),
    [
        (False, 'TEMPLATE """{{ .Prompt }}"""'),
        (True, '{{ range .Messages }}<start_of_turn>{{ if eq .Role "assistant" }}'),
    ],
    ids=["base", "chat"],
)
def test_modelfile_says_how_to_prompt_and_sample(is_chat: bool, template: str, source: Path, tmp_path: Path) -> None:
    if is_chat:
        as_chat(source)
    convert(source, tmp_path / "out", for_consumer="ollama", type="F16")
    text = (tmp_path / "out" / "Modelfile").read_text()
    assert text.startswith("FROM ./model.gguf\n")
    assert template in text
    for line in (
        'PARAMETER stop "<eos>"',
        'PARAMETER stop "<end_of_turn>"',
        "PARAMETER temperature 0.5",
        "PARAMETER top_k 9",
    ):
        assert line in text.splitlines()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["MODIFICATIONS.md", "Modelfile", "model.gguf"]


def test_modelfile_of_a_model_without_tokenizer_has_no_template(source: Path, tmp_path: Path) -> None:
    (source / "tokenizer.model").unlink()
    convert(source, tmp_path / "out", for_consumer="ollama")
    assert (tmp_path / "out" / "Modelfile").read_text().splitlines() == [
        "FROM ./model.gguf",
        "PARAMETER temperature 0.5",
        "PARAMETER top_k 9",
    ]


def test_recipe_is_yaml_for_this_folder(source: Path, tmp_path: Path) -> None:
    as_chat(source)
    convert(source, tmp_path / "out", for_consumer="nemo")
    recipe = yaml.safe_load((tmp_path / "out" / "automodel_recipe.yaml").read_text())
    assert recipe["model"]["pretrained_model_name_or_path"] == "."
    assert recipe["model"]["attn_implementation"] == "sdpa"
    assert recipe["dataset"]["use_hf_chat_template"] is True
    assert recipe["optimizer"]["lr"] == 1e-5


def test_scripts_hold_the_context_within_reach(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "a", for_consumer="tensorrt-llm")
    program = (tmp_path / "a" / "run_tensorrt_llm.py").read_text()
    ast.parse(program)
    assert "max_seq_len=8192" in program
    convert(source, tmp_path / "b", for_consumer="vllm")
    assert '--max-model-len 8192 "$@"' in (tmp_path / "b" / "serve-vllm.sh").read_text()
