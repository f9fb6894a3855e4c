"""cpp/formats/tables.h and the golden files of the C++ tests are what the Python side says."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cpp_tables = load(ROOT / "scripts" / "cpp_tables.py")
make_golden = load(ROOT / "cpp" / "tests" / "data" / "make_golden.py")


def test_header_is_current(monkeypatch):
    monkeypatch.setattr(cpp_tables.sys, "argv", ["cpp_tables.py", "--check"])
    assert cpp_tables.main() == 0


def test_changed_header_is_told(monkeypatch, capsys, tmp_path):
    header = cpp_tables.TARGET.read_text(encoding="utf-8")
    changed = tmp_path / "tables.h"
    changed.write_text(header.replace('"Q4_K", 256, 144', '"Q4_K", 256, 145', 1), encoding="utf-8")
    assert changed.read_text(encoding="utf-8") != header
    monkeypatch.setattr(cpp_tables, "TARGET", changed)
    monkeypatch.setattr(cpp_tables.sys, "argv", ["cpp_tables.py", "--check"])
    assert cpp_tables.main() == 1
    assert "cpp/formats/tables.h differs from the Python tables" in capsys.readouterr().err
    monkeypatch.setattr(cpp_tables.sys, "argv", ["cpp_tables.py"])
    assert cpp_tables.main() == 0
    assert changed.read_text(encoding="utf-8") == header


@pytest.mark.parametrize(
    "row",
    [
        '{"self_attn.q_proj.weight", Axis::query_rows, Axis::hidden, false, false},',
        '{"self_attn.q_norm.weight", Axis::head, Axis::none, true, false},',
        '{"pre_feedforward_layernorm.weight", Axis::hidden, Axis::none, false, true},',
        '{"pruned_heads", NeutralValue::Kind::empty_object, 0.0, ""},',
        '{"hidden_act", NeutralValue::Kind::text, 0.0, "gelu"},',
    ],
)
def test_rows(row):
    assert row in cpp_tables.render()


def test_golden_files_are_current(monkeypatch):
    monkeypatch.setattr(make_golden.sys, "argv", ["make_golden.py", "--check"])
    assert make_golden.main() == 0


def test_changed_golden_files_are_told(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(make_golden, "FOLDER", tmp_path)
    monkeypatch.setattr(make_golden.sys, "argv", ["make_golden.py", "--check"])
    assert make_golden.main() == 1
    assert "configs.json differs from what Python reads" in capsys.readouterr().err
