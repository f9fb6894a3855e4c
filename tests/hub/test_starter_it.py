"""The adapter of `starter-it` as the repository keeps it: small, whole, for this starter, with what its licence asks."""

import json
from pathlib import Path

import pytest
import safetensors

from gemcut.errors import NotFoundError
from gemcut.hub import adapter_of
from gemcut.inspect import check_licence

MAX_BYTES = 4_000_000
ADAPTER = Path(__file__).resolve().parents[2] / "distributions" / "starter-it" / "src" / "gemcut_starter_it" / "adapter"


def test_it_is_a_small_adapter_of_the_starter():
    config = json.loads((ADAPTER / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["r"], config["base_model_name_or_path"]) == (8, "google/gemma-3-270m")
    path = ADAPTER / "adapter_model.safetensors"
    assert path.stat().st_size <= MAX_BYTES
    with safetensors.safe_open(path, "np") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118 - no mapping


def test_it_brings_the_template_it_was_trained_with():
    assert "<start_of_turn>" in (ADAPTER / "chat_template.jinja").read_text(encoding="utf-8")


def test_its_licence_duties_are_met():
    found = check_licence(ADAPTER)
    assert found["licence"]["name"].startswith("Gemma")
    assert [duty for duty in found["duties"] if not duty["met"]] == []


def test_the_installed_package_is_the_one_of_the_repository():
    try:
        installed = adapter_of("starter-it")
    except NotFoundError:
        pytest.skip("the extra starter-it is not installed; make setup installs it")
    files = sorted(path.name for path in ADAPTER.iterdir())
    assert sorted(path.name for path in installed.iterdir()) == files
    for name in files:
        assert (installed / name).read_bytes() == (ADAPTER / name).read_bytes(), name
