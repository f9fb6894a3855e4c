"""`verify` finds a model equal to itself in every form, and different where anything that counts was changed."""

from __future__ import annotations

import dataclasses
import importlib
import json

import ml_dtypes
import numpy as np
import pytest

from gemcut.checkpoint.adapter import Adapter, write_adapter
from gemcut.checkpoint.convert import convert
from gemcut.config import FULL_ATTENTION, SLIDING_ATTENTION, RopeParameters, published
from gemcut.errors import CheckpointError, DataError, GemcutError, NotFoundError, TokenizerError, UsageError
from gemcut.inspect import verify
from gemcut.inspect.verify import config_differences
from gemcut.interfaces import LowRankUpdate

module = importlib.import_module("gemcut.inspect.verify")  # the package has the function under this name
QUERY = "model.layers.1.self_attn.q_proj.weight"


def in_bfloat16(name, values):
    return values.astype(ml_dtypes.bfloat16)


@pytest.mark.native
def test_model_is_the_same_as_itself(tiny_folder):
    seen = []
    report = verify(tiny_folder, str(tiny_folder), engine="native", dtype="float32", progress=lambda *f: seen.append(f))
    json.dumps(report, allow_nan=False)
    assert (report["verdict"], report["is_same"], report["reasons"], report["config"]) == ("same", True, [], [])
    assert report["a"] == {
        "reference": str(tiny_folder), "path": str(tiny_folder), "format": "hf", "adapter": None,
        "engine": "native", "dtype": "float32",
    }  # fmt: skip
    assert report["tokenizer"] == {"in_a": True, "in_b": True, "same": True, "first_difference": None}
    assert {row["max_error"] for row in report["tensors"]["compared"]} == {0.0}
    logits = report["logits"]
    assert [logits[key] for key in ("max_error", "mean_kl", "max_kl", "perplexity_change")] == [0, 0, 0, 0]
    assert (logits["same_top_rate"], logits["predicted_tokens"]) == (1, 639)
    assert logits["perplexity_a"] == logits["perplexity_b"] > 1
    titles = [title for title, *_ in seen]
    assert titles[0] == "model.embed_tokens.weight"
    assert {"logits of A on native", "logits of B on native"} <= set(titles)
    assert seen[-1][1:] == (logits["positions"], logits["positions"])


PLAIN = {"post_norms": False, "qk_norm": False}
FULL = {"layer_types": (FULL_ATTENTION,) * 2, "sliding_window": None}
LLAMA = {"hidden_activation": "silu", "scale_embeddings": False, "norm_unit_offset": False, "bos_token_id": 2}
FAMILIES = {
    "gemma": {**PLAIN, **FULL, "model_type": "gemma", "tie_word_embeddings": True},
    "gemma2": {
        "qk_norm": False, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "model_type": "gemma2",
        "tie_word_embeddings": True,
    },
    "gemma3": {"model_type": "gemma3_text"},
    "llama": {**PLAIN, **FULL, **LLAMA, "model_type": "llama"},
    "mistral": {**PLAIN, **FULL, **LLAMA, "num_key_value_heads": 2, "model_type": "mistral"},
}  # fmt: skip


@pytest.mark.native
@pytest.mark.parametrize("family", FAMILIES)
def test_gguf_form_is_the_same(family, write_tiny_model, tmp_path):
    changes = FAMILIES[family]
    kinds = dict.fromkeys(changes.get("layer_types", (SLIDING_ATTENTION, FULL_ATTENTION)))
    theta = {FULL_ATTENTION: 1e6 if family == "gemma3" else 1e4, SLIDING_ATTENTION: 1e4}
    ropes = tuple((kind, RopeParameters(theta[kind])) for kind in kinds)
    folder = write_tiny_model(tmp_path / family, **{"rope_parameters": ropes, **changes})
    convert(folder, tmp_path / "tiny.gguf", "gguf")
    report = verify(folder, tmp_path / "tiny.gguf", engine="native", dtype="float32", num_tokens=60)
    assert (report["verdict"], report["reasons"], report["b"]["format"]) == ("same", [], "gguf")
    assert report["tokenizer"]["same"]
    gains = [row for row in report["tensors"]["compared"] if row["adds_one"]]
    assert bool(gains) == family.startswith("gemma")
    # Half a unit in the last place of 1 + w, for gains of up to 1.
    assert max((row["max_error"] for row in gains), default=0.0) < 3e-7
    assert {row["max_error"] for row in report["tensors"]["compared"] if not row["adds_one"]} == {0.0}
    assert report["logits"]["mean_kl"] <= report["logits"]["mean_kl_limit"]


@pytest.mark.native
def test_bfloat16_form_is_the_same_within_its_precision(tiny_folder, write_changed):
    report = verify(tiny_folder, write_changed(in_bfloat16), engine="native", dtype="float32", num_tokens=100)
    assert (report["verdict"], report["is_same"]) == ("same within BF16's precision", True)
    assert {(row["type_a"], row["type_b"]) for row in report["tensors"]["compared"]} == {("F32", "BF16")}
    assert 0 < report["logits"]["mean_kl"] < report["logits"]["mean_kl_limit"]


@pytest.mark.native
def test_changed_matrix_is_found_in_tensors_and_logits(tiny_folder, write_changed):
    other = write_changed(lambda name, values: values[::-1] if name == QUERY else values)
    report = verify(tiny_folder, other, engine="native", dtype="float32", num_tokens=100)
    assert (report["verdict"], report["is_same"]) == ("different", False)
    assert report["reasons"][0] == f"1 tensor with larger errors than types explain, {QUERY} first"
    assert [row["name"] for row in report["tensors"]["compared"] if row["verdict"] == "different"] == [QUERY]
    assert any(reason.startswith("mean KL is ") for reason in report["reasons"])


@pytest.mark.native
def test_two_dtypes_of_one_model_differ_by_what_they_round(tiny_folder):
    report = verify(tiny_folder, tiny_folder, engine="native", dtype="float32", dtype_b="auto", num_tokens=100)
    assert report["verdict"] == "same"
    assert 0 < report["logits"]["mean_kl"] < report["logits"]["mean_kl_limit"]


@pytest.mark.native
@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        pytest.param({"is_finite": False}, "a logit is NaN or infinite", id="not-finite"),
        pytest.param({"mean_kl": 0.5}, "mean KL is 0.5, rounding explains 1e-06", id="divergence"),
    ],
)
def test_engine_that_computes_otherwise_is_found(tiny_folder, monkeypatch, facts, reason):
    run = module.run
    monkeypatch.setattr(
        module,
        "run",
        lambda task, progress: (answer := run(task, progress)) | {"distance": (answer["distance"] or {}) | facts},
    )
    report = verify(tiny_folder, tiny_folder, engine="native", dtype="float32", num_tokens=20)
    assert (report["verdict"], report["reasons"]) == ("different", [reason])


@pytest.mark.native
def test_perplexity_that_moved_is_found(tiny_folder, monkeypatch):
    run = module.run

    def worse(task, progress):
        answer = run(task, progress)
        return answer | {"logprobs": [[value - task.compares for value in row] for row in answer["logprobs"]]}

    monkeypatch.setattr(module, "run", worse)
    report = verify(tiny_folder, tiny_folder, engine="native", dtype="float32", num_tokens=20)
    assert report["reasons"] == ["perplexity differs by +171.83%, rounding explains 0.10%"]
    assert report["logits"]["max_log_probability_error"] == pytest.approx(1)


def test_tensors_only_computes_nothing(tiny_folder, write_changed):
    report = verify(tiny_folder, write_changed(in_bfloat16), tensors_only=True)
    assert report["logits"] is None
    assert "engine" not in report["a"]
    assert report["verdict"] == "same within BF16's precision"


def test_models_of_other_sizes_are_different(tiny_folder, write_tiny_model, tmp_path):
    one_layer = {"num_hidden_layers": 1, "layer_types": (SLIDING_ATTENTION,)}
    one_layer["rope_parameters"] = ((SLIDING_ATTENTION, RopeParameters()),)
    other = write_tiny_model(tmp_path / "other", vocab_size=706, **one_layer)
    report = verify(tiny_folder, other)
    json.dumps(report, allow_nan=False)
    assert report["verdict"] == "different"
    assert report["logits"] is None  # the vocabularies differ
    assert {"field": "num_hidden_layers", "a": 2, "b": 1, "matters": True} in report["config"]
    tensors = report["tensors"]
    assert {"name": "model.embed_tokens.weight", "a": [704, 32], "b": [706, 32]} in tensors["shapes"]
    assert "13 tensors only in A, model.layers.1.input_layernorm.weight first" in report["reasons"]
    assert "5 tensors of other shapes, model.embed_tokens.weight first" in report["reasons"]
    assert "config: num_hidden_layers differs" in report["reasons"]
    assert tensors["only_in_b"] == []
    swapped = verify(other, tiny_folder)
    assert swapped["tensors"]["only_in_b"] == tensors["only_in_a"]
    assert "13 tensors only in B, model.layers.1.input_layernorm.weight first" in swapped["reasons"]


def test_adapter_is_part_of_its_side(tiny_folder, tmp_path):
    rng = np.random.default_rng(3)
    factors = rng.standard_normal((2, 32), np.float32), rng.standard_normal((64, 2), np.float32)
    write_adapter(tmp_path, Adapter({QUERY: LowRankUpdate(*factors, 0.1)}))
    report = verify(tiny_folder, tiny_folder, adapter_b=tmp_path, tensors_only=True)
    assert (report["a"]["adapter"], report["b"]["adapter"]) == (None, str(tmp_path))
    assert report["reasons"] == [f"1 tensor with larger errors than types explain, {QUERY} first"]
    changed = next(row for row in report["tensors"]["compared"] if row["name"] == QUERY)
    assert changed["max_error"] == pytest.approx(0.1 * np.abs(factors[1] @ factors[0]).max(), rel=1e-4)
    both = verify(tiny_folder, tiny_folder, adapter=tmp_path, adapter_b=tmp_path, tensors_only=True)
    assert both["verdict"] == "same"


def test_other_tokenizer_is_found(tiny_folder, write_changed):
    other = write_changed(lambda name, values: values)
    settings = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": False}
    (other / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    report = verify(tiny_folder, other, tensors_only=True)
    assert report["reasons"] == ["the tokenizers give different ids"]
    difference = report["tokenizer"]["first_difference"]
    assert difference["a"] == [2, *difference["b"]]


def test_one_tokenizer_serves_both(tiny_folder, write_changed):
    other = write_changed(lambda name, values: values)
    (other / "tokenizer.model").unlink()
    report = verify(tiny_folder, other, tensors_only=True)
    assert (report["verdict"], report["tokenizer"]["same"], report["tokenizer"]["in_b"]) == ("same", None, False)


def test_without_any_tokenizer_there_are_no_logits(write_changed):
    other = write_changed(lambda name, values: values)
    (other / "tokenizer.model").unlink()
    with pytest.raises(TokenizerError, match="neither model has a tokenizer.*--tensors-only"):
        verify(other, other)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, [], id="equal"),
        pytest.param({"rms_norm_eps": float(np.float32(1e-6))}, [], id="float32-of-a-number"),
        pytest.param({"eos_token_ids": (1, 107)}, [("eos_token_ids", False)], id="harmless"),
        pytest.param({"query_pre_attn_scalar": 128.0}, [("query_pre_attn_scalar", True)], id="arithmetic"),
        pytest.param(
            {"rope_parameters": (("full_attention", RopeParameters(1e6)),)}, [("rope_parameters", True)], id="nested"
        ),
        pytest.param({"final_logit_softcapping": 30.0}, [("final_logit_softcapping", True)], id="none-and-a-number"),
    ],
)
def test_config_differences(changes, expected):
    config = published("gemma-2b").config
    found = config_differences(config, dataclasses.replace(config, **changes))
    assert [(row["field"], row["matters"]) for row in found] == expected


def test_longer_context_alone_does_not_matter(tiny_folder, write_changed):
    other = write_changed(lambda name, values: values)
    facts = json.loads((other / "config.json").read_text(encoding="utf-8"))
    (other / "config.json").write_text(json.dumps(facts | {"max_position_embeddings": 512}), encoding="utf-8")
    report = verify(tiny_folder, other, tensors_only=True)
    assert report["config"] == [{"field": "max_position_embeddings", "a": 120, "b": 512, "matters": False}]
    assert report["verdict"] == "same"


@pytest.mark.native
def test_text_of_the_user_is_cut_to_pieces_and_windows(tiny_folder, tmp_path, monkeypatch):
    (tmp_path / "text").write_text("The planets are Mercury and Venus. " * 60, encoding="utf-8")
    tasks, run = [], module.run
    monkeypatch.setattr(module, "run", lambda task, progress: tasks.append(task) or run(task, progress))
    report = verify(
        tiny_folder, tiny_folder, engine="native", text=tmp_path / "text", num_tokens=300, dtype="float32", threads=1
    )
    first = tasks[0]
    assert (first.threads, first.compares, tasks[1].compares) == (1, False, True)
    # Both as long as the context of 120 allows, each after BOS.
    assert [len(piece) for piece in first.pieces] == [len(window) for window in first.windows] == [120, 120, 62]
    assert {piece[0] for piece in first.pieces} == {2}
    joined = [token_id for window in first.windows for token_id in window[1:]]
    assert (len(joined), report["logits"]["predicted_tokens"], report["logits"]["positions"]) == (299, 299, 302)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"\xff\xfe", r"is not UTF-8 text \(invalid start byte at byte 0\)", id="not-text"),
        pytest.param(b" \n", "is empty, expected some text", id="empty"),
    ],
)
def test_text_that_is_none_is_refused(tiny_folder, tmp_path, content, message):
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(DataError, match=message):
        verify(tiny_folder, tiny_folder, text=tmp_path / "text")


def test_text_of_one_token_is_refused(write_changed, tmp_path):
    other = write_changed(lambda name, values: values)
    (other / "tokenizer_config.json").write_text('{"add_bos_token": false}', encoding="utf-8")
    (tmp_path / "text").write_text("a", encoding="utf-8")
    with pytest.raises(DataError, match="the text has 1 tokens, expected at least 2"):
        verify(other, other, text=tmp_path / "text")


def test_missing_text_is_not_found(tiny_folder, tmp_path):
    with pytest.raises(NotFoundError, match=r"nothing.txt: no such file"):
        verify(tiny_folder, tiny_folder, text=tmp_path / "nothing.txt")


def test_one_token_is_too_few(tiny_folder):
    with pytest.raises(UsageError, match="num_tokens is 1, expected at least 2"):
        verify(tiny_folder, tiny_folder, num_tokens=1)


def test_unknown_engine_is_refused_before_anything_is_read(tiny_folder):
    with pytest.raises(UsageError, match="engine is 'warp', expected one of"):
        verify(tiny_folder, tiny_folder, engine_b="warp", progress=lambda *_: pytest.fail("it began"))


def test_missing_model_is_not_found(tiny_folder, tmp_path):
    with pytest.raises(NotFoundError, match="no such file or folder"):
        verify(tiny_folder, tmp_path / "nothing")


def test_damaged_file_is_named(tiny_folder, write_changed):
    other = write_changed(lambda name, values: values)
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="model.safetensors"):
        verify(tiny_folder, other)


def test_value_that_is_no_number_is_named(tiny_folder, write_changed):
    other = write_changed(lambda name, values: values * np.float32(np.nan) if name == QUERY else values)
    with pytest.raises(CheckpointError, match=f'"{QUERY}" has a value that is NaN'):
        verify(tiny_folder, other)


def test_disk_without_room_is_named(tiny_folder, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(GemcutError, match=r"1,000 bytes are free, but the logits of 21 positions take 59,136.*TMPDIR"):
        verify(tiny_folder, tiny_folder, num_tokens=21)
