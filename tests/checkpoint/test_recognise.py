"""Files and folders that Gemcut does not read are told apart by their content."""

from __future__ import annotations

import gzip
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemcut.checkpoint import open_checkpoint
from gemcut.errors import CheckpointError


def zipped(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")


def saved(path: Path, save: Callable[..., None]) -> None:
    with path.open("wb") as file:
        save(file, np.ones(3))


def tarred(path: Path) -> None:
    (path.parent / "inside").write_text("content")
    with tarfile.open(path, "w") as archive:
        archive.add(path.parent / "inside", "model_config.yaml")


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "gemma.cpp": (
        lambda path: path.write_bytes(b"SBS\n" + bytes(12)),
        r"looks like gemma.cpp weights \(.sbs\)\. Get the",
    ),
    "keras weights": (
        lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(60)),
        r"looks like Keras weights \(.weights.h5\)",
    ),
    "keras archive": (lambda path: zipped(path, "metadata.json", "model.weights.h5"), "looks like a Keras archive"),
    "numpy": (lambda path: saved(path, np.save), "looks like a NumPy array"),
    "numpy archive": (lambda path: saved(path, np.savez), r"looks like an archive of NumPy arrays"),
    "zip": (lambda path: zipped(path, *"abcdef"), "looks like a zip archive with a, b, c, d, ..., not a torch checkp"),
    "empty zip": (lambda path: zipped(path), "looks like an empty zip archive"),
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"a")), "looks like a gzip archive. Unpack it first"),
    "tar": (tarred, r"looks like a tar archive, as NeMo's .nemo files are"),
    "old ggml": (lambda path: path.write_bytes(b"tjgg" + bytes(60)), "looks like a ggml file from before GGUF"),
    "git lfs": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "looks like a pointer that git left in place of a file. Run `git lfs pull` beside it",
    ),
    "web page": (lambda path: path.write_text("<!DOCTYPE html>"), "looks like a web page. The download was answered"),
    "json": (lambda path: path.write_text('{"a": 1}'), "looks like a JSON file. Name the folder that it lies in"),
    "program": (lambda path: path.write_bytes(b"\x7fELF" + bytes(60)), "looks like a program"),
    "tflite": (lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(60)), "looks like a TensorFlow Lite model"),
    "vocabulary": (
        lambda path: path.write_bytes((Path(__file__).parents[1] / "text/data/tiny-gemma.model").read_bytes()),
        "looks like a SentencePiece vocabulary. Name the folder with the weights",
    ),
    "zeros": (lambda path: path.write_bytes(bytes(100)), "begins with zeros only, as a download that was cut short"),
    "empty": (lambda path: path.touch(), "is empty. Get it again"),
    "anything": (lambda path: path.write_bytes(b"what is this?"), r"begins with b'what is ' \(13 bytes\)"),
}


@pytest.mark.parametrize(("make", "message"), FILES.values(), ids=FILES)
def test_unknown_files_are_described(make: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    make(tmp_path / "weights")
    with pytest.raises(CheckpointError, match="weights: " + message):
        open_checkpoint(tmp_path / "weights")


FOLDERS: dict[str, tuple[dict[str, str], str]] = {
    "adapter": (
        {
            "adapter_config.json": json.dumps({"base_model_name_or_path": "google/gemma-2b"}),
            "adapter_model.safetensors": "",
        },
        "looks like a PEFT adapter without its base model, google/gemma-2b. Name the base model, and the adapter",
    ),
    "adapter of nothing": (
        {"adapter_config.json": "broken"},
        r"looks like a PEFT adapter without its base model\. Name",
    ),
    "orbax": ({"_METADATA": "", "manifest.ocdbt": ""}, "looks like an Orbax checkpoint of Flax or MaxText"),
    "keras preset": ({"config.json": "{}", "model.weights.h5": ""}, "looks like a Keras preset"),
    "saved model": ({"saved_model.pb": ""}, "looks like a TensorFlow SavedModel"),
    "gemma.cpp": ({"2b-it-sfp.sbs": "", "tokenizer.spm": ""}, "looks like a folder of gemma.cpp weights"),
    "nemo": ({"context/io.json": "", "weights/x": ""}, "looks like a NeMo 2 checkpoint"),
    "models inside": ({"a/config.json": "{}", "b/config.json": "{}"}, r"holds models in folders of its own \(a, b\)"),
}


@pytest.mark.parametrize(("files", "message"), FOLDERS.values(), ids=FOLDERS)
def test_unknown_folders_are_described(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path)


def test_safetensors_whose_length_looks_like_a_pickle_is_read(configs: Any, random_weights: Any, write_hf: Any) -> None:
    source = write_hf(configs["gemma"], random_weights(configs["gemma"]))
    data = (source / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    padded = length + -(length - 0x80) % 0x100
    header = data[8 : 8 + length] + b" " * (padded - length)
    (source / "model.safetensors").write_bytes(padded.to_bytes(8, "little") + header + data[8 + length :])
    assert (source / "model.safetensors").read_bytes()[0] == 0x80
    assert open_checkpoint(source).format == "hf"


def test_real_gemma_cpp_files_are_recognised(shared_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="looks like gemma.cpp weights"):
        open_checkpoint(shared_folder / "assets" / "sbs" / "tiny-sfp.sbs")
