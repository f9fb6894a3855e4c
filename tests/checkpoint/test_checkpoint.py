"""Opening checkpoints of every format: the same weights under the same names, and everything wrong is named."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch

from gemcut.checkpoint import Checkpoint, open_checkpoint
from gemcut.config import PUBLISHED, DecoderConfig
from gemcut.errors import CheckpointError, ConfigError, GemcutError, NotFoundError

Weights = dict[str, np.ndarray]
Make = Callable[..., Any]
FAMILIES = ("gemma", "gemma2", "gemma3", "llama", "mistral")
every_family = pytest.mark.parametrize("family", FAMILIES)


def assert_holds(checkpoint: Checkpoint, config: DecoderConfig, weights: Weights) -> None:
    assert checkpoint.config == config
    assert list(checkpoint.tensors) == list(weights)
    for name, tensor in checkpoint.tensors.items():
        assert tensor.shape == weights[name].shape
        assert np.array_equal(tensor.read(), weights[name]), name


def rewrite(folder: Path, change: Callable[[Weights], Weights]) -> None:
    """Change the tensors of a one-file folder."""
    path = folder / "model.safetensors"
    safetensors.numpy.save_file(change(safetensors.numpy.load_file(path)), path)


@every_family
@pytest.mark.parametrize(("dtype", "num_shards"), [("float32", 1), ("bfloat16", 2), ("float16", 1)])
def test_opens_safetensors(
    family: str, dtype: str, num_shards: int, configs: Any, random_weights: Make, write_hf: Make
) -> None:
    weights = random_weights(configs[family])
    folder = write_hf(configs[family], weights, dtype, num_shards)
    with open_checkpoint(folder) as checkpoint:
        assert_holds(checkpoint, configs[family], weights)
        assert (checkpoint.format, checkpoint.quantized, checkpoint.unused) == ("hf", False, [])
        assert (checkpoint.tokenizer_files, checkpoint.gguf_metadata) == (folder, None)
        embedding = checkpoint.tensors["model.embed_tokens.weight"]
        assert embedding.stored_bytes == 96 * 64 * np.dtype(embedding.read(dtype).dtype).itemsize
    assert not checkpoint.tensors


@every_family
@pytest.mark.parametrize("stored_type", ["F32", "F16", "BF16"])
def test_opens_gguf(family: str, stored_type: str, configs: Any, random_weights: Make, write_gguf: Make) -> None:
    weights = random_weights(configs[family])
    with open_checkpoint(write_gguf(configs[family], weights, stored_type)) as checkpoint:
        assert_holds(checkpoint, configs[family], weights)
        assert (checkpoint.format, checkpoint.quantized, checkpoint.tokenizer_files) == ("gguf", False, None)
        assert checkpoint.gguf_metadata is not None
        assert checkpoint.gguf_metadata["tokenizer.ggml.tokens"][5] == "token 5"


@pytest.mark.parametrize("family", ["gemma3", "llama"])
def test_opens_split_and_quantised_gguf(family: str, configs: Any, random_weights: Make, write_gguf: Make) -> None:
    weights = random_weights(configs[family])
    first = write_gguf(configs[family], weights, "Q8_0", per_file=7)
    assert first.name.startswith("model-Q8_0-00001-of-0000")
    last = sorted(first.parent.glob("*.gguf"))[-1]
    for path in (first, last, first.parent):
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.quantized
            assert list(checkpoint.tensors) == list(weights)
            for name, tensor in checkpoint.tensors.items():
                assert np.abs(tensor.read() - weights[name]).max() < 1 / 128, name


@pytest.mark.parametrize("family", ["gemma2", "mistral"])
@pytest.mark.parametrize("num_shards", [1, 2])
def test_opens_torch(
    family: str, num_shards: int, configs: Any, random_weights: Make, write_hf: Make, tmp_path: Path
) -> None:
    weights = random_weights(configs[family])
    folder = write_hf(configs[family], weights)
    (folder / "model.safetensors").unlink()
    state = {name: torch.from_numpy(values).to(torch.bfloat16) for name, values in weights.items()}
    if num_shards == 1:
        torch.save(state, folder / "pytorch_model.bin")
    else:
        weight_map = {name: f"pytorch_model-{1 + index % 2:05d}-of-00002.bin" for index, name in enumerate(state)}
        for file in set(weight_map.values()):
            torch.save({name: value for name, value in state.items() if weight_map[name] == file}, folder / file)
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with open_checkpoint(folder) as checkpoint:
        assert_holds(checkpoint, configs[family], weights)
        assert checkpoint.format == "torch"


def gemma_torch_state(config: DecoderConfig, weights: Weights) -> dict[str, Any]:
    """The weights in the names of Google's PyTorch code."""
    state: dict[str, Any] = {"embedder.weight": weights["model.embed_tokens.weight"], "freqs_cis": np.zeros(4)}
    for name, values in weights.items():
        if name.endswith("q_proj.weight"):
            parts = [weights[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            state[name.replace("q_proj", "qkv_proj")] = np.concatenate(parts)
        elif not name.endswith(("k_proj.weight", "v_proj.weight")) and "embed" not in name:
            state[name.replace("q_norm", "query_norm").replace("k_norm", "key_norm")] = values
    return {name: torch.from_numpy(np.asarray(values, np.float32)) for name, values in state.items()}


def test_opens_googles_torch_files(configs: Any, random_weights: Make, tmp_path: Path) -> None:
    config = configs["gemma3"]
    weights = random_weights(config)
    path = tmp_path / "gemma.ckpt"
    torch.save({"model_state_dict": gemma_torch_state(config, weights), "note": 1}, path)
    with open_checkpoint(path, config) as checkpoint:
        assert_holds(checkpoint, config, weights)
        assert checkpoint.unused == [("freqs_cis", "follows from the configuration"), ("note", "not a tensor")]
    with pytest.raises(ConfigError, match=r"gemma\.ckpt: its shapes are those of no published Gemma\. Pass the config"):
        open_checkpoint(path)


def test_googles_torch_files_are_known_by_their_shapes(
    configs: Any, random_weights: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configs["gemma"]
    other = dataclasses.replace(config, intermediate_size=16)
    published = {
        name: dataclasses.replace(PUBLISHED["gemma-2b"], name=name, config=entry)
        for name, entry in (("other", other), ("right", config))
    }
    monkeypatch.setattr("gemcut.checkpoint.checkpoint.PUBLISHED", published)
    weights = random_weights(config)
    torch.save(gemma_torch_state(config, weights), tmp_path / "gemma.ckpt")
    assert_holds(open_checkpoint(tmp_path), config, weights)


@pytest.mark.parametrize(
    ("body", "head", "tower"),
    [
        ("language_model.model.", "language_model.", "vision_tower.encoder.weight"),
        ("model.language_model.", "", "model.multi_modal_projector.mm_soft_emb_norm.weight"),
        ("", "", "model.vision_tower.encoder.weight"),
    ],
    ids=["old", "new", "base model"],
)
def test_multimodal_names(body: str, head: str, tower: str, configs: Any, random_weights: Make, write_hf: Make) -> None:
    config = configs["gemma3"]
    weights = random_weights(config)
    folder = write_hf(config, weights)
    buffer = "layers.0.self_attn.rotary_emb.inv_freq"

    def change(stored: Weights) -> Weights:
        renamed = {body + name.removeprefix("model."): values for name, values in stored.items()}
        extra = np.zeros((1, 64), np.float32)
        return renamed | {head + "lm_head.weight": stored["model.embed_tokens.weight"], tower: extra, buffer: extra}

    rewrite(folder, change)
    with open_checkpoint(folder) as checkpoint:
        assert_holds(checkpoint, config, weights)
        reasons = dict(checkpoint.unused)
    assert reasons.pop(head + "lm_head.weight") == "a copy of the embedding, which is the output head"
    assert reasons.pop(buffer) == "follows from the configuration"
    assert reasons.pop(tower).startswith("part of the vision")
    assert not reasons


def test_padding_rows_of_the_vocabulary_are_cut(configs: Any, random_weights: Make, write_hf: Make) -> None:
    config = configs["llama"]
    weights = random_weights(config)
    folder = write_hf(config, weights)
    padding = np.full((64, 64), 7, np.float32)
    padded = ("model.embed_tokens.weight", "lm_head.weight")
    rewrite(folder, lambda stored: stored | {name: np.concatenate([stored[name], padding]) for name in padded})
    with open_checkpoint(folder) as checkpoint:
        assert_holds(checkpoint, config, weights)
        assert dict(checkpoint.unused)["model.embed_tokens.weight[96:160]"] == "rows above vocab_size, padding"
    wider = dataclasses.replace(config, vocab_size=160)
    assert open_checkpoint(folder, wider).tensors["lm_head.weight"].read()[-1, 0] == 7


def test_a_file_of_a_folder_opens_too(configs: Any, random_weights: Make, write_hf: Make) -> None:
    weights = random_weights(configs["gemma"])
    folder = write_hf(configs["gemma"], weights, "float32", 2)
    (folder / "generation_config.json").write_text('{"temperature": 0.5}')
    for name in ("model.safetensors.index.json", "model-00002-of-00002.safetensors"):
        checkpoint = open_checkpoint(folder / name)
        assert_holds(checkpoint, configs["gemma"], weights)
        assert checkpoint.generation_config == {"temperature": 0.5}


def test_a_file_is_known_by_its_content(configs: Any, random_weights: Make, write_gguf: Make, tmp_path: Path) -> None:
    weights = random_weights(configs["gemma"])
    odd_name = tmp_path / "weights.bin"
    shutil.move(write_gguf(configs["gemma"], weights), odd_name)
    assert open_checkpoint(odd_name).format == "gguf"


def test_sampling_settings_of_gguf_files(
    configs: Any, random_weights: Make, write_gguf: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(configs["gemma"], random_weights(configs["gemma"]))
    assert open_checkpoint(path).generation_config == {}
    read = open_checkpoint.__globals__["read_gguf"]
    sampling = {"general.sampling.temp": 1.0, "general.sampling.top_k": 64}
    monkeypatch.setattr(
        "gemcut.checkpoint.checkpoint.read_gguf", lambda path: (read(path)[0] | sampling, read(path)[1])
    )
    assert open_checkpoint(path).generation_config == {"temperature": 1.0, "top_k": 64, "do_sample": True}


Q_PROJ, NORM = "model.layers.1.self_attn.q_proj.weight", "model.norm.weight"
ONES = np.ones((1, 64), np.float32)
WRONG_TENSORS: dict[str, tuple[Callable[[Weights], Weights], str]] = {
    "bias": (
        lambda stored: stored | {"model.layers.1.self_attn.q_proj.bias": ONES},
        r'model\.safetensors: "model\.layers\.1\.self_attn\.q_proj\.bias" has no place in a gemma decoder of 2 layers',
    ),
    "extra layer": (
        lambda stored: stored | {"model.layers.2.mlp.up_proj.weight": ONES},
        r'"model\.layers\.2\.mlp\.up_proj\.weight" has no place .* Pass the config that came with these weights',
    ),
    "unknown": (lambda stored: stored | {"score.weight": ONES}, '"score.weight" has no place'),
    "missing": (
        lambda stored: {name: values for name, values in stored.items() if name not in (Q_PROJ, NORM)},
        rf"2 of 20 tensors are missing, the first is {Q_PROJ}",
    ),
    "twice": (
        lambda stored: stored | {f"language_model.{NORM}": stored[NORM]},
        rf'"{NORM}" and "language_model.{NORM}" are both {NORM}, expected one',
    ),
    "shape": (
        lambda stored: stored | {Q_PROJ: ONES},
        rf'model\.safetensors: "{Q_PROJ}" is \(1, 64\), expected \(128, 64\) = \(num_attention_heads \* head_dim, hidd',
    ),
    "too many rows": (
        lambda stored: stored | {"model.embed_tokens.weight": np.zeros((96 + 129, 64), np.float32)},
        r"is \(225, 64\), expected \(96, 64\) = \(vocab_size, hidden_size\)",
    ),
    "too few rows": (
        lambda stored: stored | {"model.embed_tokens.weight": np.zeros((95, 64), np.float32)},
        r"is \(95, 64\), expected \(96, 64\)",
    ),
    "scalar": (lambda stored: stored | {NORM: np.array(1, np.float32)}, r"is \(\), expected \(64,\) = \(hidden_size\)"),
    "double": (
        lambda stored: stored | {NORM: stored[NORM].astype(np.float64)},
        rf'"{NORM}" is stored as F64, expected one of BF16, F16, F32',
    ),
    "whole numbers": (lambda stored: stored | {NORM: stored[NORM].astype(np.int8)}, "is stored as I8, expected one"),
}


@pytest.mark.parametrize(("change", "message"), WRONG_TENSORS.values(), ids=WRONG_TENSORS)
def test_tensors_that_do_not_fit_are_named(
    change: Callable[[Weights], Weights], message: str, configs: Any, random_weights: Make, write_hf: Make
) -> None:
    folder = write_hf(configs["gemma"], random_weights(configs["gemma"]))
    rewrite(folder, change)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


@pytest.mark.parametrize(("number", "found"), [(99, "ggml type 99"), (26, "I32")], ids=["unknown", "not read"])
def test_gguf_types_that_are_not_read_are_named(
    number: int, found: str, configs: Any, random_weights: Make, write_gguf: Make
) -> None:
    path = write_gguf(configs["gemma"], random_weights(configs["gemma"]))
    data = bytearray(path.read_bytes())
    name = b"blk.0.attn_norm.weight"
    position = data.index(name) + len(name) + 4 + 8  # behind the number of dimensions and the one dimension
    data[position : position + 4] = number.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(
        CheckpointError, match=rf'"blk\.0\.attn_norm\.weight" is stored as {found}, expected one of BF16'
    ):
        open_checkpoint(path)


def test_another_models_config_is_named(configs: Any, random_weights: Make, write_hf: Make) -> None:
    folder = write_hf(configs["gemma3"], random_weights(configs["gemma3"]))
    wrong = dataclasses.replace(configs["gemma3"], head_dim=64)
    with pytest.raises(
        CheckpointError, match=r"is \(128, 64\), expected \(256, 64\) = \(num_attention_heads \* head_dim"
    ):
        open_checkpoint(folder, wrong)


def test_fused_matrices_are_checked(configs: Any, random_weights: Make, tmp_path: Path) -> None:
    state = gemma_torch_state(configs["gemma"], random_weights(configs["gemma"]))
    state["model.layers.0.self_attn.qkv_proj.weight"] = torch.zeros(99, 64)
    torch.save(state, tmp_path / "gemma.ckpt")
    with pytest.raises(
        CheckpointError, match=r"is \(99, 64\), expected \(256, 64\) = \(query, key and value rows, hid"
    ):
        open_checkpoint(tmp_path, configs["gemma"])


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["NaN", "infinity"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_values_that_are_no_numbers_are_named_when_read(
    value: float, dtype: str, configs: Any, random_weights: Make, write_hf: Make
) -> None:
    weights = random_weights(configs["gemma"])
    weights[Q_PROJ][7, 3] = value
    checkpoint = open_checkpoint(write_hf(configs["gemma"], weights, dtype))
    for target in ("float32", "bfloat16", "float16"):
        with pytest.raises(CheckpointError, match=rf'model\.safetensors: "{Q_PROJ}" has a value that is NaN, infinite'):
            checkpoint.tensors[Q_PROJ].read(target)
    assert checkpoint.tensors[NORM].read().shape == (64,)


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({}, NotFoundError, "holds no weights, expected model.safetensors"),
        (
            {"a.gguf": b"", "b.gguf": b""},
            CheckpointError,
            r"has 2 checkpoints \(a\.gguf, b\.gguf\), expected one\. Name",
        ),
        ({"model.safetensors": b""}, CheckpointError, "model.safetensors: is 0 bytes, expected at least 8"),
        ({"model.gguf": b""}, CheckpointError, "model.gguf: the magic at byte 0 needs 4 bytes, the file has 0 more"),
        (
            {"pytorch_model.bin": b"what is this?"},
            CheckpointError,
            r"begins with b'what is ' \(13 bytes\)\. .* Expected safe",
        ),
        ({"pytorch_model.bin": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 "}, CheckpointError, "is not one of torch's zip files"),
    ],
    ids=["empty folder", "two models", "empty safetensors", "empty gguf", "unknown", "old torch"],
)
def test_folders_without_weights_are_named(
    files: dict[str, bytes], error: type[GemcutError], message: str, tmp_path: Path
) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(error, match=message) as caught:
        open_checkpoint(tmp_path)
    assert caught.value.exit_code in (3, 4)


def test_missing_paths_and_configs_are_named(
    configs: Any, random_weights: Make, write_hf: Make, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="nowhere: no such file"):
        open_checkpoint(tmp_path / "nowhere")
    folder = write_hf(configs["gemma"], random_weights(configs["gemma"]))
    (folder / "generation_config.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"generation_config\.json: is a list, expected a JSON object"):
        open_checkpoint(folder)
    (folder / "config.json").write_text("{'single': quotes}")
    with pytest.raises(ConfigError, match=r"config\.json: is not valid JSON"):
        open_checkpoint(folder)
    (folder / "config.json").unlink()
    with pytest.raises(NotFoundError, match=r"config\.json: no such file, expected the configuration of model\.safet"):
        open_checkpoint(folder)


def test_unreadable_files_are_named(
    configs: Any, random_weights: Make, write_hf: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_hf(configs["gemma"], random_weights(configs["gemma"]))

    def refuse(*arguments: Any, **named: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("gemcut.checkpoint.checkpoint.open", refuse, raising=False)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read \(Permission denied\)"):
        open_checkpoint(folder)
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\)\. Check its permissions"):
        open_checkpoint(folder)


def test_bfloat16_survives_as_a_view(configs: Any, random_weights: Make, write_hf: Make) -> None:
    weights = random_weights(configs["gemma"])
    checkpoint = open_checkpoint(write_hf(configs["gemma"], weights, "bfloat16"))
    values = checkpoint.tensors[Q_PROJ].read("bfloat16")
    assert values.dtype == ml_dtypes.bfloat16
    assert np.shares_memory(values, checkpoint.tensors[Q_PROJ].raw)
    checkpoint.close()
    assert np.array_equal(values.astype(np.float32), weights[Q_PROJ])
