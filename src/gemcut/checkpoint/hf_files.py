"""What a Hugging Face folder holds besides its weights: configuration, tokenizer, model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gemcut.checkpoint.adapter import ADAPTER_TEMPLATE
from gemcut.checkpoint.checkpoint import Checkpoint
from gemcut.checkpoint.conversion_report import ConversionReport
from gemcut.checkpoint.lazy_tensor import STORED_DTYPES
from gemcut.config import config_to_hf
from gemcut.errors import TokenizerError
from gemcut.files import json_bytes, read_bytes
from gemcut.text import TOKENIZER_FILES, Tokenizer, stop_token_ids, tokenizer_files

CONFIG_FILE = "config.json"
_MAX_FILE_BYTES = 256 * 1024 * 1024  # the largest tokenizer file known, Gemma 3's tokenizer.json, has 33 MB


def hf_files(
    checkpoint: Checkpoint,
    tokenizer: Tokenizer | None,
    types: Mapping[str, str],
    *,
    name: str,
    card: Mapping[str, str | None],
    report: ConversionReport,
    template: str | None = None,
) -> dict[str, bytes]:
    """Name and content of each file; what the source does not have is noted in the report as made.

    Args:
        checkpoint: The source.
        tokenizer: Its tokenizer.
        types: ggml's name of each tensor's type.
        name: What to call the model.
        card: Entries of the model card's head; None for what is not known.
        report: Takes the notes.
        template: The chat template of an adapter that made a chat model of it: it goes before the source's, and the end
            of a turn ends an answer.

    Raises:
        ConfigError: config.json has no words for the configuration.
    """
    config = checkpoint.config
    matrices = [types[key] for key, tensor in checkpoint.tensors.items() if len(tensor.shape) == 2]
    dtype = STORED_DTYPES[max(set(matrices), key=matrices.count)]
    settings = _generation_config(checkpoint)
    if template is not None and tokenizer is not None:
        settings["eos_token_id"] = list(stop_token_ids(tokenizer, checkpoint.generation_config))
    files = {
        # transformers 5 reads "dtype", older releases and vLLM "torch_dtype".
        CONFIG_FILE: json_bytes(config_to_hf(config) | {"dtype": dtype, "torch_dtype": dtype}),
        "generation_config.json": json_bytes(settings),
    }
    if tokenizer is not None:
        files |= _tokenizer_files(checkpoint, tokenizer, report)
    if template is not None:
        files[ADAPTER_TEMPLATE] = template.encode("utf-8")
    files["README.md"] = model_card(name, checkpoint.format, dtype, card).encode("utf-8")
    return files


def _generation_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The source's own settings, with the ids that begin, end and fill a text."""
    config = checkpoint.config
    eos = config.eos_token_ids
    ids = {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(eos) if len(eos) > 1 else (eos[0] if eos else None),
        "pad_token_id": config.pad_token_id,
    }
    return {key: value for key, value in ids.items() if value is not None} | checkpoint.generation_config


def _tokenizer_files(checkpoint: Checkpoint, tokenizer: Tokenizer, report: ConversionReport) -> dict[str, bytes]:
    """The source's files as they are; those it lacks are made from the ones it has."""
    folder = checkpoint.tokenizer_files if checkpoint.gguf_metadata is None else None
    found = _read_all(folder) if folder else {}
    made = tokenizer_files(tokenizer, checkpoint.config.max_position_embeddings)
    missing = [name for name in made if name not in found]
    for name in missing:
        report.made.append((name, "from the source's vocabulary and settings"))
    return found | {name: made[name] for name in missing}


def _read_all(folder: Path) -> dict[str, bytes]:
    names = [name for name in TOKENIZER_FILES if (folder / name).is_file()]
    return {name: read_bytes(folder / name, _MAX_FILE_BYTES, TokenizerError) for name in names}


def model_card(name: str, source_format: str, dtype: str, entries: Mapping[str, str | None]) -> str:
    """A README.md: the head that hubs read, what the files are, and how to load them."""
    known = {key: value for key, value in entries.items() if value is not None}
    head = {**known, "library_name": "transformers", "pipeline_tag": "text-generation"}
    lines = ["---", *(f"{key}: {value}" for key, value in head.items()), "---", "", f"# {name}", ""]
    lines += [
        f"Weights in {dtype}, converted by Gemcut from {source_format} files.",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'model = AutoModelForCausalLM.from_pretrained("path/to/this/folder", dtype="auto")',
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")',
        "```",
        "",
    ]
    return "\n".join(lines)
