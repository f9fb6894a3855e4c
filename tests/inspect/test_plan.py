"""`plan` adds up: bytes are those of the files and of the engine, speeds those of the formulas."""

from __future__ import annotations

import dataclasses
import importlib
import json

import pytest

from gemcut.checkpoint.convert import convert
from gemcut.config import published
from gemcut.config.parameters import num_parameters, parameter_shapes
from gemcut.errors import ContextLengthError, NotFoundError, UsageError
from gemcut.inspect import plan
from gemcut.inspect.hardware import Hardware, hardware_named
from gemcut.inspect.memory_parts import answering_parts, lora_parameters, tuning_parts
from gemcut.inspect.roofline import (
    LAYER_SECONDS,
    attention_multiply_adds,
    decode_seconds,
    prefill_seconds,
    train_seconds,
)
from gemcut.inspect.show import cache_bytes
from gemcut.inspect.stored_weights import StoredWeights

module = importlib.import_module("gemcut.inspect.plan")
HERE = Hardware(
    "this machine", 16_000_000_000, 32e9, "measured", "2026-11-23", int8_ops=900e9, is_measured=True
)  # fmt: skip
BOX = Hardware("box", 16_000_000_000, 100e9, "its manual", "2026-11-23", bf16_flops=50e12)


@pytest.fixture(autouse=True)
def no_models_here(tmp_path, monkeypatch):
    for name in ("HF_HUB_CACHE", "KAGGLEHUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("GEMCUT_HARDWARE", raising=False)


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(module, "this_machine", lambda threads: HERE)


def weights_of(name: str, kind: str = "BF16", packed: bool = False) -> StoredWeights:
    config = published(name).config
    return StoredWeights(config, dict.fromkeys(parameter_shapes(config), kind), packed)


KINDS = ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q5_1", "Q4_K_S", "Q4_0", "Q4_1"]


@pytest.fixture(scope="module")
def wide_folder(write_tiny_model, tmp_path_factory):
    """A model whose rows are whole blocks of every type."""
    sizes = {
        "hidden_size": 256,
        "intermediate_size": 512,
        "head_dim": 64,
        "query_pre_attn_scalar": 64,
        "tie_word_embeddings": True,
    }
    return write_tiny_model(tmp_path_factory.mktemp("wide") / "model", **sizes)


@pytest.mark.native
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_of_a_token_are_those_the_engine_counts(kind, wide_folder, tmp_path):
    from gemcut.engine import NativeCheckpoint, NativeLanguageModel

    convert(wide_folder, tmp_path / "model.gguf", "gguf", type=kind)
    config, types = module._types(tmp_path / "model.gguf", None)
    weights = StoredWeights(config, types, packed=True)
    with NativeCheckpoint(tmp_path / "model.gguf") as checkpoint:
        model = NativeLanguageModel(checkpoint)
    assert weights.bytes_per_token == model.weight_bytes_per_token
    assert weights.layer_multiply_adds == model.multiply_adds_per_token
    assert weights.num_bytes == pytest.approx(model.weights_bytes, rel=0.01)
    model.close()


@pytest.mark.native
def test_bytes_of_the_starter_are_those_the_engine_counts(starter_path):
    config, types = module._types(starter_path, None)
    weights = StoredWeights(config, types, packed=True)
    assert weights.bytes_per_token == 184_434_688
    assert weights.in_words() == "Q8_0 73%, Q5_0 18%, Q4_K 6%, Q6_K 4%"


def test_weights_of_a_table_are_bytes_of_its_numbers():
    weights = weights_of("gemma-2b")
    assert weights.num_bytes == 2 * num_parameters(weights.config)
    assert weights.head_multiply_adds == 256_000 * 2048
    assert weights.bytes_per_token == 2 * (weights.layer_multiply_adds + weights.head_multiply_adds)
    assert weights.in_words() == "BF16 100%"


def test_head_of_its_own_is_read_and_its_embedding_is_not():
    weights = weights_of("llama-2-7b")
    shapes = parameter_shapes(weights.config)
    norms = sum(shape[0] for shape in shapes.values() if len(shape) == 1)
    embedding = weights.config.vocab_size * weights.config.hidden_size
    assert weights.bytes_per_token == 2 * (num_parameters(weights.config) - norms - embedding)


def test_decoding_reads_weights_and_cache_here_with_time_for_each_layer():
    weights = weights_of("gemma-2b", "Q4_0", packed=True)
    reading = (weights.bytes_per_token + cache_bytes(weights.config, 600, "bfloat16")) / 32e9
    assert decode_seconds(weights, HERE, 600, 1) == pytest.approx(reading + 18 * LAYER_SECONDS)


def test_many_sequences_are_bound_by_arithmetic():
    weights = weights_of("gemma-2b")
    config = weights.config
    adds = weights.layer_multiply_adds + weights.head_multiply_adds + attention_multiply_adds(config, 100)
    assert decode_seconds(weights, BOX, 100, 4000) == pytest.approx(2 * 4000 * adds / 50e12)
    assert decode_seconds(weights, BOX, 100, 1) == pytest.approx(
        (weights.bytes_per_token + cache_bytes(config, 100, "bfloat16")) / 100e9
    )


def test_sliding_layers_attend_to_their_window():
    config = published("gemma-3-270m").config  # 15 layers of 512, 3 of all
    assert attention_multiply_adds(config, 2000) == 2 * 4 * 256 * (15 * 512 + 3 * 2000)


def test_prefill_is_arithmetic_of_the_layers_and_one_head():
    weights = weights_of("gemma-2b")
    adds = 4096 * (weights.layer_multiply_adds + attention_multiply_adds(weights.config, 2048))
    assert prefill_seconds(weights, BOX, 4096) == pytest.approx(2 * (adds + weights.head_multiply_adds) / 50e12)
    assert prefill_seconds(weights, BOX, 1) == pytest.approx(weights.bytes_per_token / 100e9)


@pytest.mark.parametrize(
    ("kind", "known"), [pytest.param("Q4_0", True, id="integers"), pytest.param("BF16", False, id="floats")]
)
def test_prefill_here_is_known_where_its_arithmetic_is_measured(kind, known):
    assert (prefill_seconds(weights_of("gemma-2b", kind, packed=True), HERE, 512) is not None) == known


def test_training_passes():
    weights = weights_of("gemma-2b")
    layers, head = weights.layer_multiply_adds + attention_multiply_adds(weights.config, 50), weights.head_multiply_adds
    assert train_seconds(weights, BOX, 100, "full") == pytest.approx(200 * (4 * layers + 3 * head) / 50e12)
    assert train_seconds(weights, BOX, 100, "lora") == pytest.approx(200 * (3 * layers + 2 * head) / 50e12)
    assert train_seconds(weights, HERE, 100, "lora") is None


def test_parts_while_answering():
    weights = weights_of("gemma-3-270m")
    parts = answering_parts(weights, BOX, 1000, 3)
    assert parts["weights"] == 2 * num_parameters(weights.config)
    assert parts["kv_cache"] == 3 * cache_bytes(weights.config, 1000, "bfloat16")
    assert parts["logits"] == 3 * 4 * 262_144
    assert parts["engine"] == 1_600_000_000
    assert answering_parts(weights, HERE, 1000, 3)["engine"] == 128 << 20


def test_full_tuning_holds_16_bytes_for_each_number():
    config = published("gemma-3-1b-pt").config
    parts = tuning_parts(config, BOX, 2048, 1, "full")
    assert parts["weights"] + parts["gradients"] + parts["optimizer"] == 16 * num_parameters(config)
    assert parts["residual_stream"] == 2 * 2048 * 1152 * 26
    assert parts["logits"] == 3 * 4 * 256 * 262_144


def test_lora_holds_16_bytes_for_each_number_of_its_adapters():
    config = published("gemma-2b").config
    rank_rows = 2048 + 2048 + 2 * (2048 + 256) + 2048 + 2048 + 3 * (2048 + 16_384)  # q, k and v, o, three of the FFN
    assert lora_parameters(config) == 18 * 16 * rank_rows
    parts = tuning_parts(config, BOX, 512, 2, "lora")
    assert parts["weights"] == 2 * num_parameters(config)
    assert parts["adapters"] + parts["gradients"] + parts["optimizer"] == 16 * lora_parameters(config)


def test_published_name_is_planned_without_files():
    facts = plan("gemma-2-9b-it", on="nvidia-l4", context=4096)
    json.dumps(facts, allow_nan=False)
    assert facts["model"]["types"] == "BF16 100%"
    assert facts["hardware"] == dataclasses.asdict(hardware_named("nvidia-l4"))
    assert facts["total_bytes"] == sum(facts["memory"].values())
    assert facts["free_bytes"] == 24_000_000_000 - facts["total_bytes"]
    assert facts["fits"]
    assert facts["cost"] is None


@pytest.mark.parametrize("tune", [None, "lora"], ids=["answering", "lora"])
def test_largest_context_is_the_last_that_fits(tune):
    facts = plan("gemma-7b", on="nvidia-l4", tune=tune, batch=3 if tune is None else 1)
    largest = facts["largest_context"]
    assert 0 < largest < 8192
    assert plan("gemma-7b", on="nvidia-l4", tune=tune, batch=facts["batch"], context=largest)["fits"]
    assert not plan("gemma-7b", on="nvidia-l4", tune=tune, batch=facts["batch"], context=largest + 1)["fits"]


def test_model_that_is_too_large_fits_no_context():
    facts = plan("gemma-3-27b-it", on="nvidia-l4")
    assert (facts["fits"], facts["largest_context"]) == (False, 0)
    assert facts["free_bytes"] < 0


def test_file_is_planned_as_it_is_stored(tiny_folder, here):
    facts = plan(tiny_folder)
    assert facts["model"]["types"] == "F32 100%"
    assert facts["context"] == 120  # the model's own
    assert facts["speed"]["prompt_tokens"] == 120
    assert facts["speed"]["prefill_tokens_per_second"] is None
    assert facts["speed"]["decode_tokens_per_second"] > 0


def test_stored_type_can_be_chosen(here):
    plain, quantised = plan("gemma-2b"), plan("gemma-2b", type="Q8_0")
    assert quantised["memory"]["weights"] < 0.6 * plain["memory"]["weights"]
    assert quantised["speed"]["prefill_tokens_per_second"] > 0


def test_price_gives_the_cost_of_a_million_tokens(tmp_path):
    (tmp_path / "own.toml").write_text(
        "[box]\nmemory_bytes = 24e9\nbandwidth_bytes_per_second = 100e9\nbf16_flops = 50e12\n"
        'source = "a"\ndate = 2026-01-01\nprice_per_hour = 3.6\nprice_source = "b"\nprice_date = 2026-01-02\n'
    )
    facts = plan("gemma-2b", on="box", hardware_file=tmp_path / "own.toml")
    cost, speed = facts["cost"], facts["speed"]
    assert (cost["per_hour"], cost["source"], cost["date"]) == (3.6, "b", "2026-01-02")
    assert cost["per_million_tokens"]["decode"] == pytest.approx(1000 / speed["decode_tokens_per_second"])
    assert set(cost["per_million_tokens"]) == {"prefill", "decode"}
    tuning = plan("gemma-2b", on="box", hardware_file=tmp_path / "own.toml", tune="lora")
    assert set(tuning["cost"]["per_million_tokens"]) == {"train"}


def test_defaults_of_the_context():
    assert plan("gemma-3-1b-pt", on="nvidia-l4")["context"] == 8192
    assert plan("gemma-3-1b-pt", on="nvidia-l4", tune="lora")["context"] == 2048


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({"batch": 0}, UsageError, "batch is 0, expected at least 1", id="batch"),
        pytest.param({"tune": "some"}, UsageError, "tune is 'some', expected one of lora, full", id="tune"),
        pytest.param({"context": 0}, UsageError, "context is 0, expected at least 1 token", id="context"),
        pytest.param({"context": 9000}, ContextLengthError, "context is 9000, but the model's context is 8192", id="long"),
        pytest.param({"on": "warp-9"}, NotFoundError, "warp-9: no such hardware", id="hardware"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        plan("gemma-2b", **{"on": "nvidia-l4", **options})


def test_model_that_is_nowhere_is_not_found():
    with pytest.raises(NotFoundError, match="hf:a/b: not on this machine"):
        plan("hf:a/b", on="nvidia-l4")
