"""docs/models.md shows the published models as they are in the table."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("model_docs", ROOT / "scripts" / "model_docs.py")
model_docs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(model_docs)


def test_page_is_current(monkeypatch):
    monkeypatch.setattr(model_docs.sys, "argv", ["model_docs.py", "--check"])
    assert model_docs.main() == 0


def test_changed_page_is_told(monkeypatch, capsys, tmp_path):
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    changed = tmp_path / "models.md"
    changed.write_text(page.replace("2,506,172,416", "2,506,172,417", 1), encoding="utf-8")
    monkeypatch.setattr(model_docs, "TARGET", changed)
    monkeypatch.setattr(model_docs.sys, "argv", ["model_docs.py", "--check"])
    assert model_docs.main() == 1
    assert "docs/models.md differs from the published models" in capsys.readouterr().err
    monkeypatch.setattr(model_docs.sys, "argv", ["model_docs.py"])
    assert model_docs.main() == 0
    assert changed.read_text(encoding="utf-8") == page


@pytest.mark.parametrize("name", ["gemma-2b-it", "llama-2-13b"])
def test_row_of_one_model(name):
    (row,) = (line for line in model_docs.lines() if line.startswith(f"| `{name}` |"))
    expected = {
        "gemma-2b-it": "| `gemma-2b-it` | 2,506,172,416 | 18 | 2,048 | 8,192 | yes | google/gemma-2b-it | "
        "keras/gemma/keras/gemma_instruct_2b_en |",
        "llama-2-13b": "| `llama-2-13b` | 13,015,864,320 | 40 | 5,120 | 4,096 | no | meta-llama/Llama-2-13b-hf |  |",
    }
    assert row == expected[name]
