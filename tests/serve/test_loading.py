"""Names that clients see, adapters by name, memory for keys and values."""

from pathlib import Path

import pytest

from gemcut.errors import UsageError
from gemcut.serve.loading import adapter_of, load_served, served_name


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        pytest.param("starter", "starter", id="starter"),
        pytest.param("gemma-3-1b-it", "gemma-3-1b-it", id="published"),
        pytest.param("/models/secret/gemma-Q4_K_M.gguf", "gemma-Q4_K_M", id="file"),
        pytest.param("./models/mine/", "mine", id="folder"),
        pytest.param("hf:google/gemma-3-1b-it", "hf:google/gemma-3-1b-it", id="hub"),
        pytest.param("hf:org/repo/model-q8.gguf", "hf:org/repo/model-q8", id="hub-file"),
    ],
)
def test_names_of_models(reference, name):
    assert served_name(reference) == name


def test_adapters_are_named():
    assert adapter_of("poems=./lora=2") == ("poems", Path("lora=2"))
    for bad in ("poems", "=path", "a b=path", "poems="):
        with pytest.raises(UsageError, match="expected NAME=PATH"):
            adapter_of(bad)


class FakeModel:
    """Notes the scheduler that it is asked for."""

    name, engine_model = "model", None

    def __init__(self, device):
        self.device, self.constraints = device, object()

    def new_scheduler(self, *limits):
        return limits


def test_models_share_the_memory_for_keys_and_values(monkeypatch):
    monkeypatch.setattr("gemcut.serve.loading.engine_facts", lambda: {"available_memory_bytes": 1200})
    loaded = []

    def load(path):
        loaded.append(path)
        return FakeModel("cpu")

    adapters = {"a": Path("one"), "b": Path("two")}
    models = load_served("m", adapters, load, parallel=4, max_waiting=9)
    assert loaded == [None, Path("one"), Path("two")]
    assert [(model.name, model.base) for model in models] == [("m", None), ("m+a", "m"), ("m+b", "m")]
    assert {model.scheduler for model in models} == {(4, 9, 200)}
    assert len({model.text_model.constraints for model in models}) == 1
    (model,) = load_served("m", {}, lambda _: FakeModel("gpu"), parallel=4, max_waiting=9)
    assert model.scheduler == (4, 9, None)


@pytest.mark.native
def test_ended_texts_keep_a_small_share_of_the_memory(write_tiny_model, tmp_path, monkeypatch):
    import gemcut

    folder = write_tiny_model(tmp_path / "tiny")
    for free, expected in ((1 << 40, 512 << 20), (1 << 20, 1 << 17)):
        monkeypatch.setattr("gemcut.serve.loading.engine_facts", lambda free=free: {"available_memory_bytes": free})
        (model,) = load_served(
            "m", {}, lambda _: gemcut.load(folder, engine="native", threads=1), parallel=4, max_waiting=9
        )
        assert model.text_model.engine_model.prefix_cache_bytes == expected
        assert model.scheduler.cache.limit == free // 2
