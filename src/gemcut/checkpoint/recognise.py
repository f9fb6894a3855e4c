"""What a file or folder that Gemcut cannot open looks like, and what to do with it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

# Bytes that a file begins with, what has them, and what to do; the first that fits counts.
# Source: the formats' own descriptions; gemma.cpp's BlobStore header.
_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"SBS\n", "gemma.cpp weights (.sbs)", "Get the same model from Hugging Face or as GGUF."),
    (b"\x89HDF\r\n\x1a\n", "Keras weights (.weights.h5)", "Get the same model from Hugging Face or as GGUF."),
    (b"ggjt", "a ggml file from before GGUF", "Get the model as GGUF."),
    (b"tjgg", "a ggml file from before GGUF", "Get the model as GGUF."),
    (b"lmgg", "a ggml file from before GGUF", "Get the model as GGUF."),
    (b"version https://git-lfs", "a pointer that git left in place of a file", "Run `git lfs pull` beside it."),
    (b"<!DOCTYPE", "a web page", "The download was answered with a page, perhaps one to log in. Download it again."),
    (b"<html", "a web page", "The download was answered with a page, perhaps one to log in. Download it again."),
    (b"PK\x05\x06", "an empty zip archive", "Get it again."),
    (b"\x1f\x8b", "a gzip archive", "Unpack it first."),
    (b"\x93NUMPY", "a NumPy array", "Name the model's own files."),
    (b"\x7fELF", "a program", "Name the model's own files."),
    (b"MZ", "a program", "Name the model's own files."),
    (b"{", "a JSON file", "Name the folder that it lies in."),
)
_TAR_MAGIC, _TAR_OFFSET = b"ustar", 257
_TFLITE_MAGIC, _TFLITE_OFFSET = b"TFL3", 4
_HEAD_BYTES = 512
_MAX_LISTED = 4
_FETCH_HF = "Get the same model from Hugging Face or as GGUF."


def describe_file(path: Path) -> str | None:
    """What a file that is no safetensors, GGUF or torch file looks like, and what to do; None when nothing tells."""
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        return "is empty. Get it again."
    if not any(head):
        return "begins with zeros only, as a download that was cut short. Get it again."
    for beginning, what, advice in _BEGINNINGS:
        if head.startswith(beginning):
            return f"looks like {what}. {advice}"
    if head[:1] == head[2:3] == b"\n" and (b"<unk>" in head or b"<pad>" in head):
        return "looks like a SentencePiece vocabulary. Name the folder with the weights."
    if head[_TAR_OFFSET:].startswith(_TAR_MAGIC):
        return "looks like a tar archive, as NeMo's .nemo files are. Unpack it, and name the folder with the weights."
    if head[_TFLITE_OFFSET:].startswith(_TFLITE_MAGIC):
        return f"looks like a TensorFlow Lite model, of which the weights cannot be had back. {_FETCH_HF}"
    return None


def describe_zip(path: Path) -> str | None:
    """What a zip file that holds no torch checkpoint looks like; None for one that may hold one, or is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return None
    if any(name.endswith("model.weights.h5") for name in names):
        return f"looks like a Keras archive (.keras). {_FETCH_HF}"
    if all(name.endswith(".npy") for name in names):
        return "looks like an archive of NumPy arrays (.npz). Name the model's own files."
    listed = ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
    return f"looks like a zip archive with {listed}, not a torch checkpoint. Unpack it first."


def describe_folder(folder: Path) -> str | None:
    """What a folder without weights that Gemcut reads looks like, and what to do; None when nothing tells."""
    names = {entry.name for entry in folder.iterdir()}
    if "adapter_config.json" in names:
        return (
            f"looks like a PEFT adapter without its base model{_base_of(folder)}. Name the base model, and the adapter "
            "with --adapter."
        )
    if names & {"_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt"}:
        return f"looks like an Orbax checkpoint of Flax or MaxText. {_FETCH_HF}"
    if "model.weights.h5" in names or any(name.endswith(".weights.h5") for name in names):
        return f"looks like a Keras preset. {_FETCH_HF}"
    if "saved_model.pb" in names:
        return f"looks like a TensorFlow SavedModel. {_FETCH_HF}"
    if any(name.endswith(".sbs") for name in names):
        return f"looks like a folder of gemma.cpp weights (.sbs). {_FETCH_HF}"
    if {"context", "weights"} <= names:
        return "looks like a NeMo 2 checkpoint. Export it to Hugging Face's format with NeMo."
    inside = sorted(name for name in names if (folder / name / "config.json").is_file())
    if inside:
        return f"holds models in folders of its own ({', '.join(inside[:_MAX_LISTED])}). Name one of them."
    return None


def _base_of(folder: Path) -> str:
    """The base that an adapter names, for a sentence; empty where it names none."""
    try:
        settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        base = settings.get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        return ""
    return f", {base}" if isinstance(base, str) and base else ""
