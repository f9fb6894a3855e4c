"""Conversions: round trips over random configurations, what is refused, and what the report says."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemcut.checkpoint import convert, open_checkpoint
from gemcut.checkpoint.adapter import Adapter, write_adapter
from gemcut.checkpoint.importance import Importance, write_importance
from gemcut.config import FULL_ATTENTION, SLIDING_ATTENTION, DecoderConfig, RopeParameters, config_to_hf
from gemcut.config.parameters import parameter_shapes
from gemcut.errors import CheckpointError, ConfigError, NotFoundError, UsageError
from gemcut.interfaces import LowRankUpdate

Weights = dict[str, np.ndarray]
Q_PROJ, NORM = "model.layers.0.self_attn.q_proj.weight", "model.norm.weight"
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


@st.composite
def random_configs(draw: Callable[..., Any]) -> DecoderConfig:
    """A small decoder of any family that GGUF has words for."""
    family = draw(st.sampled_from(["gemma", "gemma2", "gemma3_text", "llama", "mistral"]))
    layers, kv_heads = draw(st.integers(1, 7)), draw(st.integers(1, 2))
    head_dim = 2 * draw(st.integers(1, 8))
    period = {"gemma2": 2, "gemma3_text": 6}.get(family)
    kinds = {"gemma2": (SLIDING_ATTENTION, FULL_ATTENTION), "gemma3_text": (SLIDING_ATTENTION,) * 5 + (FULL_ATTENTION,)}
    window = None
    layer_types = (FULL_ATTENTION,) * layers
    if period or (family == "mistral" and draw(st.booleans())):
        window = draw(st.integers(1, 64))
        layer_types = tuple(kinds.get(family, (SLIDING_ATTENTION,))[index % (period or 1)] for index in range(layers))
    local, full = RopeParameters(), RopeParameters(draw(st.sampled_from([1e4, 1e6])))
    if family == "gemma3_text":
        full = dataclasses.replace(full, factor=draw(st.sampled_from([1.0, 8.0])))
    elif SLIDING_ATTENTION in layer_types:
        local = full
    ropes = ((SLIDING_ATTENTION, local), (FULL_ATTENTION, full))
    is_gemma = family.startswith("gemma")
    return DecoderConfig(
        vocab_size=draw(st.integers(1, 40)),
        hidden_size=draw(st.integers(1, 40)),
        intermediate_size=draw(st.integers(1, 40)),
        num_hidden_layers=layers,
        num_attention_heads=kv_heads * draw(st.integers(1, 3)),
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=draw(st.integers(1, 9999)),
        layer_types=layer_types,
        sliding_window=window,
        rope_parameters=tuple((kind, rope) for kind, rope in ropes if kind in layer_types),
        query_pre_attn_scalar=head_dim,
        rms_norm_eps=draw(st.sampled_from([1e-5, 1e-6])),
        hidden_activation="gelu_pytorch_tanh" if is_gemma else "silu",
        tie_word_embeddings=draw(st.booleans()),
        scale_embeddings=is_gemma,
        norm_unit_offset=is_gemma,
        post_norms=family in ("gemma2", "gemma3_text"),
        qk_norm=family == "gemma3_text",
        attn_logit_softcapping=50.0 if family == "gemma2" else None,
        final_logit_softcapping=30.0 if family == "gemma2" else None,
        model_type=family,
    )


def weights_of(config: DecoderConfig, seed: int, dtype: Any = np.float32) -> Weights:
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal(shape, np.float32).astype(dtype) for name, shape in parameter_shapes(config).items()
    }


def write_model(folder: Path, config: DecoderConfig, weights: Weights) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_to_hf(config)))
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    return folder


def read(folder: Path) -> Weights:
    parts = [safetensors.numpy.load_file(file) for file in sorted(folder.glob("*.safetensors"))]
    return {name: values for part in parts for name, values in part.items()}


def assert_same(found: Weights, wanted: Weights, is_unit_offset: bool) -> None:
    """Bit for bit; norm gains that went through 1 + w to one unit in the last place of that."""
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        if is_unit_offset and "norm" in name:
            gain = values.astype(np.float32)
            assert (np.abs(found[name].astype(np.float32) - gain) <= np.spacing(np.abs(1 + gain))).all(), name
        else:
            assert found[name].dtype == values.dtype
            assert found[name].tobytes() == values.tobytes(), name


@given(config=random_configs(), seed=st.integers(0, 99), kind=st.sampled_from(sorted(DTYPES)))
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_round_trip_through_gguf_is_exact(config: DecoderConfig, seed: int, kind: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        weights = weights_of(config, seed, DTYPES[kind])
        source = write_model(Path(name) / "a", config, weights)
        convert(source, Path(name) / "b.gguf", "gguf")
        convert(Path(name) / "b.gguf", Path(name) / "c", "hf")
        with open_checkpoint(Path(name) / "c") as back:
            ids = {field: getattr(config, field) for field in ("bos_token_id", "pad_token_id", "eos_token_ids")}
            family = {"model_type": config.model_type}  # a mistral without a window is a llama but for its name
            assert dataclasses.replace(back.config, **ids, **family) == config
        found = read(Path(name) / "c")
        vectors = {key for key, values in weights.items() if values.ndim == 1}
        found |= {key: found[key].astype(DTYPES[kind]) for key in vectors}  # norms are F32 in every GGUF file
        if kind == "F32":
            assert_same(found, weights, config.norm_unit_offset)
        else:
            assert_same({k: v for k, v in found.items() if k not in vectors}, _without(weights, vectors), False)


def _without(weights: Weights, names: set[str]) -> Weights:
    return {name: values for name, values in weights.items() if name not in names}


@given(config=random_configs(), seed=st.integers(0, 99), shard_bytes=st.integers(1, 20_000))
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_shards_hold_the_same_bytes(config: DecoderConfig, seed: int, shard_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        weights = weights_of(config, seed)
        source = write_model(Path(name) / "a", config, weights)
        report = convert(source, Path(name) / "b", "hf", shard_bytes=shard_bytes)
        assert_same(read(Path(name) / "b"), weights, False)
        files = list((Path(name) / "b").glob("*.safetensors"))
        assert len(files) == sum(file.endswith(".safetensors") for file, _, _ in report.files)
        with open_checkpoint(Path(name) / "b") as back:
            assert back.config == config
            assert all(np.array_equal(back.tensors[key].read(), weights[key]) for key in weights)


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3", "llama", "mistral"])
def test_exact_norms_come_back_exactly(
    family: str, configs: dict[str, DecoderConfig], random_weights: Any, write_hf: Any, tmp_path: Path
) -> None:
    weights = random_weights(configs[family])
    convert(write_hf(configs[family], weights), tmp_path / "b.gguf", "gguf")
    convert(tmp_path / "b.gguf", tmp_path / "c.gguf", "gguf")
    report = convert(tmp_path / "c.gguf", tmp_path / "d", "hf")
    assert_same(read(tmp_path / "d"), weights, False)
    assert {tensor.action for tensor in report.tensors} <= {"copied", "converted"}
    copies = {tensor.name for tensor in report.tensors if tensor.action == "copied"}
    assert Q_PROJ in copies
    assert (NORM in copies) == (not configs[family].norm_unit_offset)


def test_large_matrices_go_in_many_chunks(
    configs: dict[str, DecoderConfig], random_weights: Any, write_hf: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("gemcut.checkpoint.recoding.CHUNK_VALUES", 1000)
    monkeypatch.setattr("gemcut.checkpoint.recoding.COPY_BYTES", 1000)
    weights = random_weights(configs["llama"])
    seen: list[tuple[str, int, int]] = []
    source = write_hf(configs["llama"], weights, "bfloat16")
    convert(source, tmp_path / "a.gguf", "gguf", type="F32", progress=lambda *call: seen.append(call))
    convert(tmp_path / "a.gguf", tmp_path / "b", "hf", type="BF16")
    assert_same(read(tmp_path / "b"), {k: v.astype(ml_dtypes.bfloat16) for k, v in weights.items()}, False)
    done = [call[1] for call in seen]
    assert done == sorted(done)
    assert done[0] > 0
    assert done[-1] == seen[0][2] >= (tmp_path / "a.gguf").stat().st_size
    assert {call[0] for call in seen} >= {"token_embd.weight", "blk.1.attn_q.weight", "output.weight"}


def test_report_says_what_was_done(
    configs: dict[str, DecoderConfig], random_weights: Any, write_hf: Any, tmp_path: Path
) -> None:
    weights = random_weights(configs["gemma"]) | {"model.layers.0.rotary_emb.inv_freq": np.ones(4, np.float32)}
    source = write_hf(configs["gemma"], weights)
    report = convert(source, tmp_path / "m.gguf", "gguf", type="bf16")
    facts = json.loads(json.dumps(report.as_json()))
    assert (facts["source_format"], facts["format"], facts["type"]) == ("hf", "gguf", "BF16")
    assert (facts["tensors_in"], facts["tensors_out"]) == (len(weights), len(weights) - 1)
    assert facts["unused"] == [
        {"name": "model.layers.0.rotary_emb.inv_freq", "reason": "follows from the configuration"}
    ]
    assert {(row["from"], row["to"]): row["tensors"] for row in facts["types"]} == {
        ("F32", "BF16"): 15,
        ("F32", "F32"): 5,
    }
    assert (facts["overflowed"], facts["vanished"], facts["dry_run"]) == (0, 0, False)
    for file in facts["files"]:
        content = (tmp_path / file["name"]).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert facts["files"][0]["name"] == "m.gguf"
    assert facts["bytes"] == sum(file["bytes"] for file in facts["files"])
    assert "The source has no tokenizer, so the target has none" in facts["notes"][0]


def test_what_overflows_and_vanishes_is_counted(
    configs: dict[str, DecoderConfig], random_weights: Any, write_hf: Any, tmp_path: Path
) -> None:
    weights = random_weights(configs["gemma"])
    weights[Q_PROJ][0, :4] = [1e5, -7e4, 1e-9, -1e-20]
    report = convert(write_hf(configs["gemma"], weights, "bfloat16"), tmp_path / "f16", "hf", type="F16")
    row = next(row for row in report.tensors if row.name == Q_PROJ)
    assert (row.overflowed, row.vanished) == (2, 2)
    assert read(tmp_path / "f16")[Q_PROJ][0, :4].tolist() == [65504.0, -65504.0, 0.0, -0.0]
    assert report.as_json()["overflowed"] == report.as_json()["vanished"] == 2


def test_dry_run_writes_nothing(
    configs: dict[str, DecoderConfig], random_weights: Any, write_hf: Any, tmp_path: Path
) -> None:
    source = write_hf(configs["gemma3"], random_weights(configs["gemma3"]))
    planned = convert(source, tmp_path / "out", "hf", type="F16", shard_bytes=30_000, dry_run=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name]
    done = convert(source, tmp_path / "out", "hf", type="F16", shard_bytes=30_000)
    assert [(name, size) for name, size, _ in planned.files] == [(name, size) for name, size, _ in done.files]
    assert planned.dry_run
    assert {digest for _, _, digest in planned.files} == {None}


def test_overwriting_replaces_the_whole_folder(
    configs: dict[str, DecoderConfig], random_weights: Any, write_hf: Any, tmp_path: Path
) -> None:
    source = write_hf(configs["gemma"], random_weights(configs["gemma"]))
    convert(source, tmp_path / "out", "hf", shard_bytes=10_000)
    with pytest.raises(UsageError, match=r"out: is there already\. Choose another name, or replace it"):
        convert(source, tmp_path / "out", "hf")
    convert(source, tmp_path / "out", "hf", overwrite=True)
    assert [file.name for file in (tmp_path / "out").glob("model*")] == ["model.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, "out"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": None}, "to is None, expected one of hf, gguf. Name the format, or whom it is for"),
        ({"to": "onnx"}, "to is 'onnx', expected one of hf, gguf"),
        ({"to": "hf", "for_consumer": "ollama"}, "to is 'hf', but ollama takes 'gguf'. Leave one of the two out"),
        ({"to": "gguf", "for_consumer": "siri"}, "for_consumer is 'siri', expected one of transformers, vllm"),
        ({"to": "gguf", "shard_bytes": 5}, "shard_bytes is 5 with gguf, expected at least 1, for hf only"),
        ({"to": "hf", "shard_bytes": 0}, "shard_bytes is 0 with hf, expected at least 1"),
        (
            {"to": "hf", "type": "Q4_0"},
            "type is 'Q4_0', expected one of F32, F16, BF16 for hf: safetensors holds plain",
        ),
        ({"to": "gguf", "type": "Q9"}, "type is 'Q9', expected one of F32, F16, BF16, Q8_0, .* there is no such type"),
        (
            {"to": "gguf", "importance": {Q_PROJ: np.ones(3, np.float32)}},
            r'importance: "model.layers.0.self_attn.q_proj.weight" has shape \(3,\), expected \(64,\)',
        ),
        (
            {"to": "gguf", "importance": {"q": np.ones(3, np.float32)}},
            r'importance: "q" is no tensor of this model. Make it from this model',
        ),
    ],
    ids=[
        "no format",
        "format",
        "two formats",
        "consumer",
        "gguf shards",
        "no bytes",
        "hf type",
        "type",
        "width",
        "name",
    ],
)
def test_wrong_use_is_named(
    arguments: dict[str, Any],
    message: str,
    configs: dict[str, DecoderConfig],
    random_weights: Any,
    write_hf: Any,
    tmp_path: Path,
) -> None:
    source = write_hf(configs["gemma"], random_weights(configs["gemma"]))
    with pytest.raises(UsageError, match=message):
        convert(source, tmp_path / "out", **arguments)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


@pytest.mark.parametrize("inside", ["", "b", "../HERE/c"], ids=["itself", "inside", "inside by a detour"])
def test_target_may_not_touch_the_source(
    inside: str, configs: dict[str, DecoderConfig], random_weights: Any, write_hf: Any
) -> None:
    source = write_hf(configs["gemma"], random_weights(configs["gemma"]))
    target = source / inside.replace("HERE", source.name) if inside else source
    with pytest.raises(UsageError, match="overlaps with the source"):
        convert(source, target, "hf", overwrite=True)


def test_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="not-there"):
        convert(tmp_path / "not-there", tmp_path / "out", "hf")


def test_numbers_that_are_none_are_refused(
    configs: dict[str, DecoderConfig], random_weights: Any, write_hf: Any, tmp_path: Path
) -> None:
    for dtype in ("float32", "bfloat16"):
        weights = random_weights(configs["gemma"])
        weights[Q_PROJ][3, 3] = np.nan
        source = write_hf(configs["gemma"], weights, dtype)
        for kind in ("F32", "BF16"):
            with pytest.raises(
                CheckpointError, match=rf'"{Q_PROJ}" has a value that is NaN or infinite, expected finite'
            ):
                convert(source, tmp_path / "out", "hf", type=kind)
    assert all(path.name.startswith("hf-") for path in tmp_path.iterdir())


def test_what_gguf_cannot_say_is_refused(
    configs: dict[str, DecoderConfig], random_weights: Any, write_hf: Any, tmp_path: Path
) -> None:
    config = dataclasses.replace(configs["gemma2"], query_pre_attn_scalar=7.0)
    source = write_hf(config, random_weights(config))
    with pytest.raises(ConfigError, match="query_pre_attn_scalar is 7.0, but GGUF's architecture 'gemma2' implies 32"):
        convert(source, tmp_path / "out.gguf", "gguf")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_llama_cpp_is_said_to_ignore_mistrals_window(
    configs: dict[str, DecoderConfig], random_weights: Any, write_hf: Any, tmp_path: Path
) -> None:
    source = write_hf(configs["mistral"], random_weights(configs["mistral"]))
    report = convert(source, tmp_path / "out.gguf", "gguf")
    assert any("knows no sliding window for Mistral: beyond 8 tokens" in note for note in report.notes)


def test_quantised_gguf_becomes_exact_float32(
    configs: dict[str, DecoderConfig], random_weights: Any, write_gguf: Any, tmp_path: Path
) -> None:
    weights = random_weights(configs["gemma"])
    source = write_gguf(configs["gemma"], weights, "Q8_0")
    report = convert(source, tmp_path / "hf", "hf")
    with open_checkpoint(source) as before:
        found = read(tmp_path / "hf")
        assert all(np.array_equal(found[name], tensor.read()) for name, tensor in before.tensors.items())
    assert any("Q8_0 became F32, which holds its numbers exactly" in note for note in report.notes)
    again = convert(source, tmp_path / "again.gguf", "gguf")
    assert {(row.source_type, row.type, row.action) for row in again.tensors} == {
        ("Q8_0", "Q8_0", "copied"),
        ("F32", "F32", "copied"),
    }


def test_importance_comes_from_a_file_too(
    configs: dict[str, DecoderConfig], random_weights: Any, write_hf: Any, tmp_path: Path
) -> None:
    config = configs["gemma"]
    source = write_hf(config, random_weights(config))
    weights = np.where(np.arange(64) < 8, 100, 0.01).astype(np.float32)
    write_importance(tmp_path / "i.gguf", Importance({Q_PROJ: weights}, 1, 1, "text"), config)
    digests = {}
    for name, importance in {"none": None, "mapping": {Q_PROJ: weights}, "file": tmp_path / "i.gguf"}.items():
        report = convert(source, tmp_path / f"{name}.gguf", "gguf", type="Q4_0", importance=importance)
        assert report.files[0][0] == f"{name}.gguf"
        with open_checkpoint(tmp_path / f"{name}.gguf") as made:
            digests[name] = hashlib.sha256(made.tensors[Q_PROJ].raw.tobytes()).hexdigest()
    assert digests["mapping"] == digests["file"] != digests["none"]


def test_torch_files_are_converted(
    configs: dict[str, DecoderConfig], random_weights: Any, write_hf: Any, tmp_path: Path
) -> None:
    weights = random_weights(configs["gemma2"])
    source = write_hf(configs["gemma2"], weights)
    (source / "model.safetensors").unlink()
    torch.save({name: torch.from_numpy(values) for name, values in weights.items()}, source / "pytorch_model.bin")
    report = convert(source, tmp_path / "out", "hf")
    assert (report.source_format, report.as_json()["tensors_out"]) == ("torch", len(weights))
    assert_same(read(tmp_path / "out"), weights, False)


def test_rows_that_pad_the_vocabulary_are_left_out(
    configs: dict[str, DecoderConfig], random_weights: Any, write_hf: Any, tmp_path: Path
) -> None:
    weights = random_weights(configs["gemma"])
    embedding = weights["model.embed_tokens.weight"]
    padded = weights | {"model.embed_tokens.weight": np.concatenate([embedding, np.ones((64, 64), np.float32)])}
    report = convert(write_hf(configs["gemma"], padded), tmp_path / "out", "hf")
    assert report.unused == [("model.embed_tokens.weight[96:160]", "rows above vocab_size, padding")]
    assert_same(read(tmp_path / "out"), weights, False)


@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_an_adapter_is_merged(
    to: str, configs: dict[str, DecoderConfig], random_weights: Any, write_hf: Any, tmp_path: Path
) -> None:
    config, rng = configs["llama"], np.random.default_rng(8)
    weights = random_weights(config)
    source = write_hf(config, weights)
    update = LowRankUpdate(rng.standard_normal((2, 64), np.float32), rng.standard_normal((128, 2), np.float32), 0.5)
    (tmp_path / "tuned").mkdir()
    write_adapter(tmp_path / "tuned", Adapter({Q_PROJ: update}))
    report = convert(source, tmp_path / "out", to, adapter=tmp_path / "tuned")
    with open_checkpoint(tmp_path / "out") as made:
        wanted = weights[Q_PROJ] + 0.5 * update.b @ update.a
        assert np.allclose(made.tensors[Q_PROJ].read(), wanted, atol=1e-6)
        assert np.array_equal(made.tensors[NORM].read(), weights[NORM])
    assert [row.name for row in report.tensors if row.action == "converted"] == [
        Q_PROJ if to == "hf" else "blk.0.attn_q.weight"
    ]
    assert any("tuned was merged into the weights in float32" in note for note in report.notes)
    record = tmp_path / "out" / "MODIFICATIONS.md" if to == "hf" else tmp_path / "out.Notice.txt"
    assert "merged with the adapter tuned" in record.read_text()
