"""The notebooks run from top to bottom and print what their committed outputs show."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
_spec = importlib.util.spec_from_file_location("run_notebooks", ROOT / "scripts" / "run_notebooks.py")
run_notebooks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run_notebooks)


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in (ROOT / "notebooks").glob("*.ipynb")])
def test_notebook_prints_what_it_shows(path, starter_path):
    shown = run_notebooks.printed(nbformat.read(path, as_version=4))
    assert run_notebooks.printed(run_notebooks.executed(path)) == shown
