"""What the engine's benchmark measures: the models, the programs' command lines, and a row of the verdict."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alternating import Worker

from gemcut.hub import cache_folder, starter_path

HERE = Path(__file__).resolve().parent
LLAMACPP_PYTHON = HERE.parent / ".venv-llamacpp" / "bin" / "python"
ENGINE_EXECUTABLE = HERE.parent / "build" / "gemcut-engine"
MODELS = ("starter", "2b-q4_0", "2b-q4_k_m")
# llama.cpp's settings that matter for speed; what it does without flags comes first.
PEER_SETTINGS: tuple[tuple[str, ...], ...] = ((), ("--no-repack",), ("--no-flash",), ("--no-repack", "--no-flash"))


@dataclasses.dataclass
class Row:
    """One line of the verdict.

    Attributes:
        work: What was done, in words.
        ours, peer: The figures in words; "-" for none.
        figure: What the goal is about, in words.
        goal: The goal in words; "-" for none.
        met: Whether it is reached; None without a goal.
        data: Every number behind it.
    """

    work: str
    ours: str
    peer: str
    figure: str
    goal: str
    met: bool | None
    data: dict[str, Any]


def model_path(model: str) -> Path:
    """A model's file; a random one is written into the cache the first time (15 to 20 seconds)."""
    if model == "starter":
        return starter_path()
    mix = model.removeprefix("2b-")
    path = cache_folder() / "benchmarks" / f"gemma-2b-random-{mix}.gguf"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, str(HERE / "prepare_random_gguf.py"), mix, str(path)], check=True)
    return path


def engine_command(model: str | Path, threads: int, *flags: str) -> list[str]:
    """The command line of worker_engine.py for one of MODELS, or a path."""
    path = model_path(model) if isinstance(model, str) else model
    return [sys.executable, str(HERE / "worker_engine.py"), str(path), "--threads", str(threads), *flags]


def peer_command(model: str, threads: int, settings: Sequence[str]) -> list[str]:
    """The command line of peer_llamacpp.py."""
    script = str(HERE / "peer_llamacpp.py")
    return [str(LLAMACPP_PYTHON), script, str(model_path(model)), "--threads", str(threads), *settings]


def engine_worker(model: str | Path, threads: int, *flags: str) -> Worker:
    """A running worker_engine.py."""
    return Worker("gemcut", engine_command(model, threads, *flags))


def peer_worker(model: str, threads: int, settings: Sequence[str]) -> Worker:
    """A running peer_llamacpp.py."""
    return Worker("llama.cpp", peer_command(model, threads, settings))


def settings_name(settings: Sequence[str]) -> str:
    """A peer's settings for a table."""
    return " ".join(flag.removeprefix("--").replace("-", " ") for flag in settings) or "defaults"
