"""A model is known by its files' contents."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from runner_models import number_model

from gemcut.evaluate import identity
from gemcut.evaluate.identity import identity_of
from gemcut.files import sha256_of


@pytest.fixture
def read(monkeypatch, tmp_path):
    """Files whose digest was taken; the cache is the test's own."""
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path / "cache"))
    names = []

    def counted(path):
        names.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(identity, "sha256_of", counted)
    return names


def model_of(path, adapter=None):
    model = number_model()
    model.path, model.adapter = path, adapter
    return model


def folder_of(path, **files):
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name.replace("_", ".")).write_text(content)
    return path


def test_a_file_has_the_digest_that_sha256sum_prints(read, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    found = identity_of(model_of(file))
    assert found.weights_sha256 == hashlib.sha256(b"weights").hexdigest()
    assert found.tokenizer_sha256 == number_model().tokenizer.digest()
    assert (found.adapter_sha256, found.engine, found.dtype, found.device) == (None, "numbers", "float32", "cpu")


def test_files_are_read_once_until_they_change(read, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    first = identity_of(model_of(file))
    assert identity_of(model_of(file)) == first
    assert read == ["model.gguf"]
    facts = file.stat()
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # the old size and time do not hide it
    assert identity_of(model_of(file)).weights_sha256 == hashlib.sha256(b"WEIGHTS").hexdigest()


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"a": 1}'], ids=["empty", "list", "half", "other"])
def test_a_damaged_cache_costs_only_time(read, tmp_path, data):
    (tmp_path / "cache" / "evaluate").mkdir(parents=True)
    known = tmp_path / "cache" / "evaluate" / "digests.json"
    known.write_bytes(data)
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    identity_of(model_of(file))
    assert read == ["model.gguf"]
    assert hashlib.sha256(b"weights").hexdigest() in json.loads(known.read_text()).values()


def test_no_cache_is_no_error(read, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    assert identity_of(model_of(file)) == identity_of(model_of(file))
    assert read == ["model.gguf"] * 2


def test_a_folder_is_known_by_the_contents_of_all_that_matters(read, tmp_path):
    files = {"config_json": "{}", "model_safetensors": "weights"}
    first = identity_of(model_of(folder_of(tmp_path / "one", **files)))
    other = folder_of(tmp_path / "two", **files, README_md="A model.")
    assert identity_of(model_of(other)) == first
    lines = "".join(
        f"{hashlib.sha256(text.encode()).hexdigest()}  {name.replace('_', '.')}\n" for name, text in files.items()
    )
    assert first.weights_sha256 == hashlib.sha256(lines.encode()).hexdigest()
    (other / "config.json").write_text('{"a": 1}')
    assert identity_of(model_of(other)) != first
    (other / ".cache").mkdir()
    (other / ".cache" / "x").write_text("x")
    changed = identity_of(model_of(other))
    (other / "generation_config.json").write_text("{}")
    assert identity_of(model_of(other)) != changed


def test_parts_and_neighbours_of_a_file_belong_to_it(read, tmp_path):
    folder = folder_of(tmp_path / "m", config_json="{}", model_safetensors="a")
    first = identity_of(model_of(folder / "model.safetensors")).weights_sha256
    (folder / "config.json").write_text('{"a": 1}')
    assert identity_of(model_of(folder / "model.safetensors")).weights_sha256 != first
    parts = [folder / f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
    for part in parts:
        part.write_text("x")
    first = identity_of(model_of(parts[0])).weights_sha256
    parts[1].write_text("y")
    assert identity_of(model_of(parts[0])).weights_sha256 != first
    index = folder / "model.safetensors.index.json"
    index.write_text("{}")
    assert identity_of(model_of(index)) == identity_of(model_of(folder))
    assert identity_of(model_of(folder / "model-00001-of-00003.safetensors")) == identity_of(model_of(folder))


def test_an_adapter_counts(read, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    plain = identity_of(model_of(file))
    adapter = folder_of(tmp_path / "lora", adapter_config_json="{}", adapter_model_safetensors="a")
    first = identity_of(model_of(file, adapter))
    assert (first.weights_sha256, first != plain) == (plain.weights_sha256, True)
    (adapter / "adapter.model.safetensors").write_text("b")
    assert identity_of(model_of(file, adapter)) != first


def test_a_model_without_files_is_known_by_its_answers(read):
    first, same, other = (identity_of(number_model(salt=salt)) for salt in ("", "", "x"))
    assert first == same != other
    assert first.weights_sha256.startswith("logits:")
    assert read == []


@pytest.mark.native
def test_engines_agree_on_the_tokenizer(starter_path, monkeypatch, tmp_path):
    import gemcut
    from gemcut.checkpoint import open_checkpoint
    from gemcut.generate.load import tokenizer_of

    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path))
    model = gemcut.load(starter_path, engine="native")
    found = identity_of(model)
    model.close()
    with open_checkpoint(starter_path) as checkpoint:
        assert found.tokenizer_sha256 == tokenizer_of(checkpoint).digest()
    assert found.weights_sha256 == "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
