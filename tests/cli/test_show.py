"""`gemcut show` prints what the library finds, for people and as JSON."""

import json

import pytest


@pytest.fixture(autouse=True)
def no_models_here(tmp_path, monkeypatch):
    for name in ("HF_HUB_CACHE", "KAGGLEHUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))


def test_published_name_without_files_is_shown_from_the_table(invoke):
    result = invoke("show", "gemma-3-4b-it", "--context", "1000")
    assert result.exit_code == 0
    for part in (
        "not on this machine; from the table of published models",
        "3,880,099,328",
        "rope_factor",
        "cache of 1,000 tokens",
        "Gemma Terms of Use, https://ai.google.dev/gemma/terms (open weights: any use but those",
        "google/gemma-3-4b-it",
        "262,208",
    ):
        assert part in result.stdout
    table = "memory float32 bfloat16 float16 weights 14.45 GiB 7.23 GiB 7.23 GiB cache of 1,000 tokens"
    assert table in " ".join(result.stdout.split())
    assert result.stderr == ""


def test_json_is_what_the_library_returns(invoke):
    from gemcut.inspect import show

    result = invoke("show", "gemma-2b", "--json")
    assert json.loads(result.stdout) == json.loads(json.dumps(show("gemma-2b")))


def test_starter_is_shown_from_its_file(invoke, starter_path):
    result = invoke("show", "starter")
    assert result.exit_code == 0
    for part in (str(starter_path), "gguf", "268,098,176", "Q8_0", "Q5_0", "Q4_K", "Q6_K", "262,144"):
        assert part in result.stdout


def test_unknown_model_ends_with_4(invoke):
    result = invoke("show", "nothing-like-it")
    assert result.exit_code == 4
    assert "nothing-like-it: neither a model name nor a file" in result.stderr
