"""LoRA adapters in PEFT's files: what is read, what is refused and how, and what merging makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch

from gemcut.checkpoint import Checkpoint, convert, open_checkpoint
from gemcut.checkpoint.adapter import Adapter, merged, read_adapter, write_adapter
from gemcut.config import DecoderConfig, published
from gemcut.config.parameters import parameter_shapes
from gemcut.engine import NativeCheckpoint
from gemcut.errors import CheckpointError, GemcutError, NotFoundError
from gemcut.interfaces import LowRankUpdate

Tensors = dict[str, np.ndarray]
RANK = 4
MODULES = ("self_attn.q_proj", "mlp.down_proj")
SETTINGS: dict[str, Any] = {
    "peft_type": "LORA",
    "r": RANK,
    "lora_alpha": 6,
    "target_modules": ["q_proj", "down_proj"],
    "bias": "none",
}
Q_A, Q_B = (f"base_model.model.model.layers.0.self_attn.q_proj.lora_{side}.weight" for side in "AB")
Q_NAME = "model.layers.0.self_attn.q_proj.weight"
K_NAME = "model.layers.0.self_attn.k_proj.weight"


def factors(config: DecoderConfig, prefix: str = "model.", modules: tuple[str, ...] = MODULES) -> Tensors:
    """Random A and B of the modules of every layer, under PEFT's names."""
    generator, shapes = np.random.default_rng(3), parameter_shapes(config)
    tensors = {}
    for layer in range(config.num_hidden_layers):
        for module in modules:
            rows, columns = shapes[f"model.layers.{layer}.{module}.weight"]
            name = f"base_model.model.{prefix}layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = generator.standard_normal((RANK, columns), dtype=np.float32)
            tensors[f"{name}.lora_B.weight"] = generator.standard_normal((rows, RANK), dtype=np.float32)
    return tensors


@pytest.fixture
def base(configs, random_weights, write_hf) -> Checkpoint:
    config = configs["gemma3"]
    return open_checkpoint(write_hf(config, random_weights(config)))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write an adapter's folder; None as a value leaves a setting out."""

    def save(tensors: Tensors, **changes: Any) -> Path:
        folder = tmp_path / "adapter"
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps(SETTINGS | changes))
        safetensors.numpy.save_file(tensors, folder / "adapter_model.safetensors")
        return folder

    return save


def test_reads_factors_and_scale(base, write):
    tensors = factors(base.config)
    adapter = read_adapter(write(tensors, base_model_name_or_path="our/model"), base)
    assert list(adapter.updates) == [
        name for name in base.tensors if name.endswith(("q_proj.weight", "down_proj.weight"))
    ]
    assert (adapter.base, adapter.prefix, adapter.unused) == ("our/model", "model.", ())
    update = adapter.updates[Q_NAME]
    assert np.array_equal(update.a, tensors[Q_A])
    assert np.array_equal(update.b, tensors[Q_B])
    assert (update.scale, update.rank, update.shape) == (1.5, RANK, base.tensors[Q_NAME].shape)


@pytest.mark.parametrize("prefix", ["model.", "model.language_model.", "language_model.model."])
def test_reads_every_way_to_name_the_text_decoder(base, write, tmp_path, prefix):
    adapter = read_adapter(write(factors(base.config, prefix)), base)
    assert adapter.prefix == prefix
    (tmp_path / "again").mkdir()
    write_adapter(tmp_path / "again", adapter)
    assert read_adapter(tmp_path / "again", base).prefix == prefix
    names = safetensors.numpy.load_file(tmp_path / "again" / "adapter_model.safetensors")
    assert names.keys() == factors(base.config, prefix).keys()


def test_factors_of_a_vision_tower_are_not_needed(base, write):
    tower = {
        "base_model.model.model.vision_tower.encoder.layers.0.self_attn.q_proj.lora_A.weight": np.zeros(
            (4, 8), np.float32
        )
    }
    adapter = read_adapter(write(factors(base.config) | tower), base)
    assert adapter.unused == ((next(iter(tower)), "part of the vision tower"),)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_reads_narrow_types_exactly(base, write, dtype):
    tensors = {name: values.astype(dtype) for name, values in factors(base.config).items()}
    update = read_adapter(write(tensors), base).updates[Q_NAME]
    assert update.a.dtype == np.float32
    assert np.array_equal(update.a, tensors[Q_A].astype(np.float32))


def test_reads_a_torch_file(base, write):
    tensors = factors(base.config)
    folder = write(tensors)
    (folder / "adapter_model.safetensors").unlink()
    state = {name: torch.from_numpy(values) for name, values in tensors.items()}
    torch.save(state | {"note": 1}, folder / "adapter_model.bin")
    adapter = read_adapter(folder, base)
    assert np.array_equal(adapter.updates[Q_NAME].b, tensors[Q_B])
    assert adapter.unused == (("note", "not a tensor"),)


@pytest.mark.native
def test_reads_beside_a_native_checkpoint(base, write):
    folder = write(factors(base.config))
    with NativeCheckpoint(base.path) as checkpoint:
        assert list(read_adapter(folder, checkpoint).updates) == list(read_adapter(folder, base).updates)


def changed(name: str, values: np.ndarray | None) -> Callable[[Tensors], Tensors]:
    """The tensors with one replaced, or without it."""
    return lambda tensors: {key: value for key, value in (tensors | {name: values}).items() if value is not None}


def renamed(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name.replace(old, new): value for name, value in tensors.items()}


def both(name: str) -> Callable[[Tensors], Tensors]:
    """The tensors with factors of one more module."""
    zeros = np.zeros((RANK, 64), np.float32), np.zeros((64, RANK), np.float32)
    pair = dict(
        zip((f"base_model.model.{name}.lora_A.weight", f"base_model.model.{name}.lora_B.weight"), zeros, strict=True)
    )
    return lambda tensors: tensors | pair


NAN = np.full((RANK, 64), np.nan, np.float32)
BAD_TENSORS = {
    "shape of A": (changed(Q_A, np.zeros((RANK, 32), np.float32)), rf'"{Q_A}" is \(4, 32\), expected \(4, 64\) = \(r, in\)'),
    "shape of B": (changed(Q_B, np.zeros((64, RANK), np.float32)), rf'"{Q_B}" is \(64, 4\), expected \(128, 4\) = \(out, r\)'),
    "rank": (changed(Q_A, np.zeros((8, 64), np.float32)), r"is \(8, 64\), expected \(4, 64\) = \(r, in\)"),
    "rank 0": (changed(Q_A, np.zeros((0, 64), np.float32)), r"is \(0, 64\), expected \(4, 64\)"),
    "no A": (changed(Q_A, None), r'"model.layers.0.self_attn.q_proj" has no lora_A, expected both'),
    "no B": (changed(Q_B, None), r'"model.layers.0.self_attn.q_proj" has no lora_B, expected both'),
    "no pair": (lambda t: changed(Q_A, None)(changed(Q_B, None)(t)), r'names "model.layers.0.self_attn.q_proj", but the weights have no'),
    "NaN": (changed(Q_A, NAN), rf'"{Q_A}" has a value that is NaN'),
    "type": (changed(Q_A, np.zeros((RANK, 64), np.int32)), rf'"{Q_A}" is stored as I32, expected F32, F16 or BF16'),
    "DoRA": (changed("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", np.zeros(128, np.float32)), "is no factor of a LoRA matrix"),
    "saved module": (changed("base_model.model.lm_head.weight", np.zeros((96, 64), np.float32)), '"base_model.model.lm_head.weight" is no factor'),
    "embedding": (both("model.embed_tokens"), "changes model.embed_tokens.weight, expected attention and feed-forward matrices only"),
    "not targeted": (both("model.layers.0.self_attn.o_proj"), r'"model.layers.0.self_attn.o_proj" is changed, but .*adapter_config.json does not name it'),
    "twice": (both("model.language_model.layers.0.self_attn.q_proj"), f"are both {Q_NAME}, expected one"),
    "more layers": (both("model.layers.9.self_attn.q_proj"), '"model.layers.9.self_attn.q_proj" has no place in a decoder of 2 layers; the adapter was made for another model'),
    "nothing": (lambda tensors: {}, "the weights change nothing of a text decoder"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_refuses_weights_that_do_not_fit(base, write, change, message):
    folder = write(change(factors(base.config)))
    with pytest.raises(CheckpointError, match=message):
        read_adapter(folder, base)


@pytest.mark.parametrize("cut", [0, 7, 40, -1], ids=str)
def test_refuses_truncated_weights(base, write, cut):
    file = write(factors(base.config)) / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match=r"cut short|not valid JSON"):
        read_adapter(file.parent, base)


def test_says_what_is_missing(base, write, tmp_path):
    with pytest.raises(NotFoundError, match=r"nowhere: has no adapter_config.json, expected a folder as peft saves it"):
        read_adapter(tmp_path / "nowhere", base)
    folder = write(factors(base.config))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(NotFoundError, match=r"has no adapter_model.safetensors, expected a folder"):
        read_adapter(folder, base)


def test_refuses_an_adapter_of_a_published_model_of_another_shape(base, write):
    folder = write(factors(base.config), base_model_name_or_path="google/gemma-2b")
    with pytest.raises(CheckpointError, match=r"was made for google/gemma-2b, but this model has another shape"):
        read_adapter(folder, base)


def test_refuses_an_adapter_of_another_published_model_of_the_same_shape(base, write):
    (base.path / "README.md").write_text("---\nbase_model: google/gemma-3-270m\n---\n")
    folder = write({}, base_model_name_or_path="google/gemma-3-270m-it")
    base.config = published("gemma-3-270m").config
    with pytest.raises(
        CheckpointError, match=r"was made for google/gemma-3-270m-it, but this is gemma-3-270m\. Name its"
    ):
        read_adapter(folder, base)


def test_names_the_shape_that_was_found(base, write):
    base.config = published("gemma-2b").config
    folder = write({}, base_model_name_or_path="google/gemma-7b")
    with pytest.raises(CheckpointError, match=r"made for google/gemma-7b, but this model has the shape of gemma-2b"):
        read_adapter(folder, base)


@pytest.fixture
def update(base) -> LowRankUpdate:
    generator, (rows, columns) = np.random.default_rng(4), base.tensors[K_NAME].shape
    a, b = (generator.standard_normal(shape, dtype=np.float32) for shape in ((3, columns), (rows, 3)))
    return LowRankUpdate(a, b, 0.7)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_merged_tensors_are_rounded_once(base, update, dtype):
    result = merged(base, Adapter({K_NAME: update}))
    exact = base.tensors[K_NAME].read().astype(np.float64) + 0.7 * (update.b.astype(np.float64) @ update.a)
    wanted = exact.astype(np.float32).astype(result.tensors[K_NAME].read(dtype).dtype)
    assert np.array_equal(result.tensors[K_NAME].read(dtype), wanted)
    out = np.empty(wanted.shape, wanted.dtype)
    assert result.tensors[K_NAME].read(dtype, out) is out
    assert np.array_equal(out, wanted)
    assert result.tensors[Q_NAME] == base.tensors[Q_NAME]


@pytest.mark.parametrize("family", ["gemma", "llama"])
@pytest.mark.parametrize("target", ["hf", "gguf"])
@pytest.mark.parametrize("source", ["hf", "gguf"])
def test_merged_heads_keep_their_order(configs, random_weights, write_hf, write_gguf, tmp_path, family, source, target):
    # GGUF keeps Llama's keys as adjacent pairs: the update's rows have to follow them, both ways.
    config = configs[family]
    weights = random_weights(config)
    path = (write_hf if source == "hf" else write_gguf)(config, weights)
    generator, shape = np.random.default_rng(5), weights[K_NAME].shape
    update = LowRankUpdate(
        *(generator.standard_normal(s, dtype=np.float32) for s in ((2, shape[1]), (shape[0], 2))), 0.5
    )
    (tmp_path / "adapter").mkdir()
    write_adapter(tmp_path / "adapter", Adapter({K_NAME: update}))
    wanted = (weights[K_NAME] + 0.5 * (update.b.astype(np.float64) @ update.a)).astype(np.float32)
    with open_checkpoint(path) as checkpoint:
        part = merged(checkpoint, Adapter({K_NAME: update})).tensors[K_NAME]
        assert np.array_equal(part.read(), wanted)
        assert np.array_equal(part.rows(32, 64).read(), wanted[32:64])
    if source == "gguf":
        return
    written = convert(path, tmp_path / f"out.{target}", target, adapter=tmp_path / "adapter").target
    with open_checkpoint(written) as checkpoint:
        assert np.array_equal(checkpoint.tensors[K_NAME].read(), wanted)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_merged_numbers_that_overflow_are_named(base, update, dtype):
    huge = LowRankUpdate(update.a, update.b, 1e39 if dtype == "float32" else 1e6)
    with pytest.raises(
        CheckpointError, match=rf'"{K_NAME}" has a value that is NaN, infinite or too large for {dtype}'
    ):
        merged(base, Adapter({K_NAME: huge})).tensors[K_NAME].read(dtype)


def test_conversion_names_merged_numbers_that_overflow(base, update, tmp_path):
    (tmp_path / "adapter").mkdir()
    write_adapter(tmp_path / "adapter", Adapter({K_NAME: LowRankUpdate(update.a, update.b, 1e39)}))
    with pytest.raises(CheckpointError, match=rf'"{K_NAME}" has a value that is NaN or infinite'):
        convert(base.path, tmp_path / "out", "hf", adapter=tmp_path / "adapter")
    assert not (tmp_path / "out").exists()


def test_written_settings_use_patterns_for_what_differs(base, tmp_path):
    generator, names = np.random.default_rng(6), [name for name in base.tensors if name.endswith("_proj.weight")]
    updates = {}
    for index, name in enumerate(names):
        rank, (rows, columns) = 2 if index % 3 else 5, base.tensors[name].shape
        a, b = (generator.standard_normal(shape, dtype=np.float32) for shape in ((rank, columns), (rows, rank)))
        updates[name] = LowRankUpdate(a, b, 1.5 if index % 4 else 0.3)
    write_adapter(tmp_path, Adapter(updates, base="our/model"))
    again = read_adapter(tmp_path, base)
    assert again.base == "our/model"
    assert list(again.updates) == list(updates)
    for name, update in updates.items():
        assert (again.updates[name].rank, again.updates[name].scale) == (
            update.rank,
            pytest.approx(update.scale, rel=1e-15),
        )
        assert np.array_equal(again.updates[name].b, update.b)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (2, 3)
    assert set(settings["rank_pattern"].values()) == {5}


def test_writing_into_no_folder_is_a_named_error(base, write, tmp_path):
    adapter = read_adapter(write(factors(base.config)), base)
    with pytest.raises(GemcutError, match=r"could not be written"):
        write_adapter(tmp_path / "missing", adapter)
