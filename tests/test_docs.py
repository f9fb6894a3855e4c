"""The Python and console blocks of the documents run, except those that say why not."""

from __future__ import annotations

import doctest
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_spec = importlib.util.spec_from_file_location("doc_blocks", ROOT / "scripts" / "doc_blocks.py")
doc_blocks = sys.modules["doc_blocks"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(doc_blocks)

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
RUN_SECONDS = 300


def runnable(path: Path, language: str) -> list:
    blocks = doc_blocks.blocks(path.read_text(encoding="utf-8"))
    return [block for block in blocks if block.language == language and block.not_run is None]


def with_blocks(language: str) -> list:
    return [pytest.param(path, id=path.name) for path in DOCUMENTS if runnable(path, language)]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"},  # the order in which `ls` lists files
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("path", with_blocks("python"))
def test_python_blocks_run_in_their_order(path, tmp_path, starter_path):
    source = "\n".join(block.code for block in runnable(path, "python"))
    done = run([sys.executable, "-c", source], tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", with_blocks("console"))
def test_console_blocks_print_what_they_show(path, tmp_path, starter_path):
    for block in runnable(path, "console"):
        for command, shown in block.sessions():
            done = run(["bash", "-euo", "pipefail", "-c", command], tmp_path)
            assert done.returncode == 0, f"{path.name}:{block.line}: {command}\n{done.stderr}"
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            same = not shown.strip() or doctest.OutputChecker().check_output(shown, done.stdout, flags)
            assert same, f"{path.name}:{block.line}: {command}\nshown:\n{shown}\nprinted:\n{done.stdout}"
