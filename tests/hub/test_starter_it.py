"""The adapter of `starter-it` as the repository keeps it: small, whole, for this starter, with what its licence asks."""

import json

import pytest
import safetensors

from gemcut.errors import NotFoundError
from gemcut.hub import adapter_of
from gemcut.inspect import check_licence

MAX_BYTES = 4_000_000


def test_it_is_a_small_adapter_of_the_starter(starter_it_adapter):
    config = json.loads((starter_it_adapter / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["r"], config["base_model_name_or_path"]) == (8, "google/gemma-3-270m")
    path = starter_it_adapter / "adapter_model.safetensors"
    assert path.stat().st_size <= MAX_BYTES
    with safetensors.safe_open(path, "np") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118 - no mapping


def test_it_brings_the_template_it_was_trained_with(starter_it_adapter):
    assert "<start_of_turn>" in (starter_it_adapter / "chat_template.jinja").read_text(encoding="utf-8")


def test_its_licence_duties_are_met(starter_it_adapter):
    found = check_licence(starter_it_adapter)
    assert found["licence"]["name"].startswith("Gemma")
    assert [duty for duty in found["duties"] if not duty["met"]] == []


def test_the_installed_package_is_the_one_of_the_repository(starter_it_adapter):
    try:
        installed = adapter_of("starter-it")
    except NotFoundError:
        pytest.skip("the extra starter-it is not installed; make setup installs it")
    files = sorted(path.name for path in starter_it_adapter.iterdir())
    assert sorted(path.name for path in installed.iterdir()) == files
    for name in files:
        assert (installed / name).read_bytes() == (starter_it_adapter / name).read_bytes(), name
