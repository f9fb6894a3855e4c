"""What a GGUF file of ours says besides its tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gemcut.checkpoint import convert
from gemcut.checkpoint.gguf_file import read_gguf
from gemcut.errors import ConfigError


@pytest.mark.parametrize(
    ("kind", "number"), [(None, 0), ("F16", 1), ("BF16", 32), ("Q8_0", 7), ("Q4_K_M", 15)], ids=str
)
def test_file_type_is_llama_cpps_number(kind: str | None, number: int, write_tiny_model: Any, tmp_path: Path) -> None:
    convert(write_tiny_model(tmp_path / "a"), tmp_path / "m.gguf", "gguf", type=kind)
    metadata = read_gguf(tmp_path / "m.gguf")[0]
    assert (metadata["general.file_type"], metadata["general.quantization_version"]) == (number, 2)
    assert (metadata["general.name"], metadata["general.type"]) == ("a", "model")
    assert len(metadata["tokenizer.ggml.tokens"]) == metadata["gemma3.vocab_size"] == 704


def test_file_type_of_tensors_that_keep_theirs(write_tiny_model: Any, tmp_path: Path) -> None:
    convert(write_tiny_model(tmp_path / "a"), tmp_path / "m.gguf", "gguf", type="Q5_0")
    convert(tmp_path / "m.gguf", tmp_path / "n.gguf", "gguf")
    assert read_gguf(tmp_path / "n.gguf")[0]["general.file_type"] in (8, 1)


def test_what_a_gguf_file_says_of_itself_is_kept(starter_path: Path, tmp_path: Path) -> None:
    report = convert(starter_path, tmp_path / "m.gguf", "gguf", dry_run=True)
    assert report.as_json()["tensors_out"] == 236
    before, tensors = read_gguf(starter_path)
    convert(starter_path, tmp_path / "m.gguf", "gguf")
    after, copies = read_gguf(tmp_path / "m.gguf")
    for key in ("general.name", "general.basename", "general.size_label", "general.license", "general.tags"):
        assert after[key] == before[key]
    assert {key: value for key, value in before.items() if key.startswith("tokenizer.")} == {
        key: value for key, value in after.items() if key.startswith("tokenizer.")
    }
    assert after["general.file_type"] == 8  # most of its matrices are Q5_0
    for name, tensor in tensors.items():
        assert copies[name].stored_type == tensor.stored_type
        assert copies[name].raw is not None
        assert copies[name].raw.tobytes() == (tensor.raw.tobytes() if tensor.raw is not None else b"")


@pytest.mark.parametrize(
    ("config_ids", "listed", "wanted"),
    [((1,), 1, []), ((1, 5), 1, [5]), ((1,), [1, 6], [6]), ((1, 5), [1, 6], [5, 6])],
    ids=["one", "in the config", "in the generation config", "in both"],
)
def test_other_ids_that_end_an_answer_are_kept(
    config_ids: tuple[int, ...], listed: Any, wanted: list[int], write_tiny_model: Any, tmp_path: Path
) -> None:
    source = write_tiny_model(tmp_path / "a", eos_token_ids=config_ids)
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": listed}))
    convert(source, tmp_path / "m.gguf", "gguf")
    metadata = read_gguf(tmp_path / "m.gguf")[0]
    assert metadata["tokenizer.ggml.eos_token_id"] == 1
    keys = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")
    assert [metadata[key] for key in keys if key in metadata] == wanted


def test_more_ends_than_gguf_has_keys_for_are_refused(write_tiny_model: Any, tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "a", eos_token_ids=(1, 5, 6, 7))
    with pytest.raises(ConfigError, match=r"eos_token_id: \[5, 6, 7\] end an answer besides 1, expected at most 2 ids"):
        convert(source, tmp_path / "m.gguf", "gguf")


def test_no_tokenizer_is_said_in_llama_cpps_word(write_tiny_model: Any, tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "a")
    (source / "tokenizer.model").unlink()
    convert(source, tmp_path / "m.gguf", "gguf")
    metadata = read_gguf(tmp_path / "m.gguf")[0]
    assert metadata["tokenizer.ggml.model"] == "no_vocab"
    assert "tokenizer.ggml.tokens" not in metadata
