"""How long a first token takes from nothing, and how much memory that leaves in use; each run is a fresh process."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from engine_models import ENGINE_EXECUTABLE, Row, engine_command, model_path, peer_command

# 16 tokens of the starter's vocabulary, the beginning-of-text token counted.
PROMPT = "The quick brown fox jumps over the lazy dog while the old cat sleeps."
MAX_STARTER_SECONDS = 0.3
MAX_LOAD_SECONDS = 0.5
MIN_START_RATIO = 5.0
MAX_MEMORY_OF_DEFAULT, MAX_MEMORY_OF_NO_REPACK = 0.7, 1.0


def measured_start(model: str, repeats: int) -> list[Row]:
    """Process start of gemcut-engine to a first token, and gemcut.load, beside llama.cpp's model + context + 1 token.

    Neither counts the end of the process, which unmaps the weights. Run by turns; the first run of each fills the page
    cache and the layout cache and is not counted.
    """
    ours, loads, peers = [], [], []
    for turn in range(repeats + 1):
        executable = _executable_seconds(model)
        load = _ready(engine_command(model, 2, "--start"))
        peer = min(_ready(peer_command(model, 2, ["--start", *flags]))["seconds"] for flags in ((), ("--no-repack",)))
        if turn:
            ours.append(executable)
            loads.append(load)
            peers.append(peer)
    ratio = statistics.median(theirs / our for our, theirs in zip(ours, peers, strict=True))
    seconds, peer_seconds = statistics.median(ours), statistics.median(peers)
    data = {"model": model, "ours_seconds": ours, "peer_seconds": peers, "ratio": ratio, "loads": loads}
    if model == "starter":
        goal, met = f"<= {MAX_STARTER_SECONDS} s", seconds <= MAX_STARTER_SECONDS
    else:
        goal, met = f">= {MIN_START_RATIO:.0f}x", ratio >= MIN_START_RATIO
    start = Row(
        f"{model}, start to first token", f"{seconds:.2f} s", f"{peer_seconds:.2f} s", f"{ratio:.1f}x", goal, met, data
    )
    return [start, _load_row(model, loads)]


def measured_memory(model: str, repeats: int) -> list[Row]:
    """Memory in use after load, a prompt of 512 tokens and a token, mapped pages counted; what was there before is not.

    The context is 4,096 tokens and keys and values take 2 bytes a number on both sides.
    """
    ours = [_ready(engine_command(model, 2, "--memory")) for _ in range(repeats)]
    rows = []
    for flags, goal, name in (
        ((), MAX_MEMORY_OF_DEFAULT, "defaults"),
        (("--no-repack",), MAX_MEMORY_OF_NO_REPACK, "no repack"),
    ):
        peers = [_ready(peer_command(model, 2, ["--memory", *flags])) for _ in range(repeats)]
        our_bytes, peer_bytes = (statistics.median(run["resident_bytes"] for run in runs) for runs in (ours, peers))
        share = our_bytes / peer_bytes
        rows.append(
            Row(
                f"{model}, memory in use",
                f"{our_bytes / 2**20:.0f} MiB",
                f"{peer_bytes / 2**20:.0f} MiB ({name})",
                f"{share:.2f}x",
                f"<= {goal}x",
                share <= goal,
                {"model": model, "ours": ours, "peer": peers, "peer_settings": name, "share": share},
            )
        )
    return rows


def _load_row(model: str, loads: list[dict[str, Any]]) -> Row:
    seconds = statistics.median(load["load_seconds"] for load in loads)
    heavy = loads[0]["heavy_modules"]
    return Row(
        f"{model}, gemcut.load",
        f"{seconds:.2f} s",
        "-",
        f"{seconds:.2f} s" + (f", imports {', '.join(heavy)}" if heavy else ""),
        f"<= {MAX_LOAD_SECONDS} s, nothing heavy imported",
        seconds <= MAX_LOAD_SECONDS and not heavy,
        {"model": model, "loads": loads},
    )


def _executable_seconds(model: str) -> float:
    command = [str(ENGINE_EXECUTABLE), "run", str(model_path(model)), PROMPT, "--max-tokens", "1", "--quiet"]
    begin = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, bufsize=0
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - begin
        process.stdout.read()
    if process.returncode or not first:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return seconds


def _ready(command: Sequence[str]) -> dict[str, Any]:
    """What a program that measures its own start says."""
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    ready: dict[str, Any] = json.loads(output.strip().splitlines()[-1])["ready"]
    return ready
