"""`show` reckons what a model is from its configuration and its files, and reads no weight."""

import json

import pytest

from gemcut.config import published
from gemcut.errors import NotFoundError, UsageError
from gemcut.inspect.show import cache_bytes, show


@pytest.fixture(autouse=True)
def no_models_here(tmp_path, monkeypatch):
    for name in ("HF_HUB_CACHE", "KAGGLEHUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.fixture
def tiny_folder(tmp_path):
    """A Hugging Face folder of a small Llama-shaped model, written by transformers."""
    transformers = pytest.importorskip("transformers", reason="transformers, which writes the folder, is not installed")
    torch = pytest.importorskip("torch", reason="torch, which transformers needs, is not installed")
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "tiny")
    (tmp_path / "tiny" / "tokenizer.json").write_text("{}")
    return tmp_path / "tiny"


def test_table_alone_is_enough():
    facts = show("gemma-2-27b-it")
    assert facts["path"] is None
    assert facts["published"] == ["gemma-2-27b-it"]
    assert facts["parameters"]["total"] == 27_227_128_320
    assert facts["architecture"]["layer_types"] == {"sliding_attention": 23, "full_attention": 23}
    assert facts["memory"]["weights_bytes"]["bfloat16"] == 2 * 27_227_128_320
    assert facts["hub"]["huggingface"] == "google/gemma-2-27b-it"
    assert facts["licence"]["name"] == "Gemma Terms of Use"
    json.dumps(facts)


def test_licence_is_left_open_when_the_same_decoder_has_none_known(tiny_folder):
    assert show(tiny_folder)["licence"] is None


def test_folder_is_described_from_its_files(tiny_folder):
    facts = show(tiny_folder)
    assert (facts["path"], facts["format"], facts["published"]) == (str(tiny_folder), "hf", [])
    assert facts["types"] == [{"type": "BF16", "tensors": 21, "bytes": 2 * facts["parameters"]["total"], "share": 1.0}]
    assert facts["tokenizer"] == {"source": ["tokenizer.json"]}
    assert facts["architecture"]["rope_theta"] == {"full_attention": 10_000.0}


def test_starter_is_described_from_its_file(starter_path):
    facts = show("starter")
    assert facts["path"] == str(starter_path)
    assert facts["published"] == ["gemma-3-270m", "gemma-3-270m-it", "functiongemma-270m-it"]
    assert sum(row["tensors"] for row in facts["types"]) == 236
    assert sum(row["share"] for row in facts["types"]) == pytest.approx(1)
    assert facts["types"][0]["type"] == "Q8_0"
    assert facts["tokenizer"]["num_tokens"] == 262_144
    assert facts["licence"]["name"] == "Gemma Terms of Use"
    assert facts["unused"] == []


@pytest.mark.parametrize(
    ("name", "num_tokens", "expected"),
    [
        pytest.param("gemma-2b", 1000, 2 * 18 * 1000 * 256 * 4, id="all-global"),
        pytest.param("gemma-3-270m", 100, 2 * 18 * 100 * 256 * 4, id="shorter-than-the-window"),
        pytest.param("gemma-3-270m", 1000, 2 * (15 * 512 + 3 * 1000) * 256 * 4, id="longer-than-the-window"),
        pytest.param("mistral-7b-v0.1", 9000, 2 * 32 * 4096 * 8 * 128 * 4, id="all-sliding"),
    ],
)
def test_cache_keeps_the_window_only(name, num_tokens, expected):
    config = published(name).config
    assert cache_bytes(config, num_tokens, "float32") == expected
    assert cache_bytes(config, num_tokens, "bfloat16") == expected // 2


def test_context_adds_a_row():
    contexts = [row["context"] for row in show("llama-2-7b", context=777)["memory"]["cache"]]
    assert contexts == [777, 2048, 4096]


def test_context_below_one_is_refused():
    with pytest.raises(UsageError, match="context is 0, expected at least 1 token"):
        show("gemma-2b", context=0)


def test_reference_without_files_or_row_is_not_found():
    with pytest.raises(NotFoundError, match="hf:a/b: not on this machine"):
        show("hf:a/b")
