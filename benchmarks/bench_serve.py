"""Measure `gemcut serve` against llama-server on the same file: streaming chats of 1 to 16 clients, and second turns.

    python benchmarks/bench_serve.py [--seconds N] [--rounds N] [--clients 1 4 8 16] [--model starter]

Both servers are loaded, one works at a time and they take turns; llama-server runs with the settings that give it the
most output tokens a second for 8 clients, found first. Each client asks anew as soon as it has its answer: a prompt of
100 to 300 tokens that was never sent before, 64 to 128 tokens of answer, sampled with a fixed seed.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import datetime
import importlib.metadata
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from bench_engine import table
from engine_models import HERE, MODELS, Row, model_path, settings_name
from rich.console import Console
from run import machine
from serve_load import closed_loop, two_turns
from serve_texts import documents, prompts
from server_process import LLAMA_SERVER, ServerProcess, gemcut_server, llama_server

PARALLEL, CONTEXT = 8, 2048  # texts at a time, and tokens of each
MIN_SPEED, MAX_FIRST_TOKEN, MAX_SECOND_TURN = 1.5, 0.7, 0.15
CHAT_TOKENS = 1000
SETTLE_SECONDS = 1.0
BASE = ("--threads", "2", "--parallel", str(PARALLEL), "--ctx-size", str(PARALLEL * CONTEXT), "--cont-batching")
# What else may make llama-server faster; each is kept when it does.
CHOICES: tuple[tuple[str, ...], ...] = (
    ("--no-repack",),
    ("--flash-attn", "on"),
    ("--flash-attn", "off"),
    ("--kv-unified",),
    ("--cache-reuse", "64", "--swa-full"),
    ("--cache-ram", "0", "--ctx-checkpoints", "0"),
)


def main() -> None:
    """Find llama-server's best settings, compare, print, keep the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measured run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each server for each number of clients")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--turns", type=int, default=8, help="chats of two turns")
    parser.add_argument("--model", choices=MODELS, default="starter")
    parser.add_argument(
        "--settings", nargs=argparse.REMAINDER, help="llama-server's, instead of searching for the best"
    )
    arguments = parser.parse_args()
    texts = prompts(seed=5)
    settings, tried = tuple(arguments.settings or ()), {}
    if arguments.settings is None:
        settings, tried = asyncio.run(best_settings(arguments, texts))
    with (
        gemcut_server(
            model_path(arguments.model), "--parallel", str(PARALLEL), "--context", str(CONTEXT), "--threads", "2"
        ) as ours,
        llama_server(model_path(arguments.model), *BASE, *settings) as peer,
    ):
        rows = asyncio.run(compared(ours, peer, arguments, texts))
    report = {
        "name": "serve",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": f"python benchmarks/bench_serve.py --seconds {arguments.seconds:g} --rounds {arguments.rounds} "
        f"--clients {' '.join(map(str, arguments.clients))} --turns {arguments.turns} --model {arguments.model}",
        "versions": versions(),
        "machine": machine(),
        "peer_settings": [*BASE, *settings],
        "peer_settings_tried": tried,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    Console().print(table(f"{arguments.model}, llama-server with {settings_name(settings)}", rows))
    (HERE / "results" / "serve.json").write_text(json.dumps(report, indent=1) + "\n")


async def best_settings(
    arguments: argparse.Namespace, texts: Iterator[str]
) -> tuple[tuple[str, ...], dict[str, float]]:
    """llama-server's fastest settings: each of CHOICES is kept when 8 clients get more tokens a second with it."""
    best: tuple[str, ...] = ()
    tried: dict[str, float] = {}
    for choice in ((), *CHOICES):
        if choice[:1] and choice[0] in best:
            continue
        with llama_server(model_path(arguments.model), *BASE, *best, *choice) as server:
            runs = [await closed_loop(server.address, texts, PARALLEL, arguments.seconds / 2) for _ in range(2)]
        tried[settings_name((*best, *choice))] = speed = max(run["output_tokens_per_second"] for run in runs)
        if speed >= max(tried.values()):
            best = (*best, *choice)
    return best, tried


async def compared(
    ours: ServerProcess, peer: ServerProcess, arguments: argparse.Namespace, texts: Iterator[str]
) -> list[Row]:
    """The rows of every number of clients, and of second turns."""
    rows = []
    servers = (ours, peer)
    for server in servers:  # not counted: pages are read, threads started
        await closed_loop(server.address, texts, 2, 2.0)
    for num_clients in arguments.clients:
        runs: dict[str, list[dict[str, Any]]] = {server.name: [] for server in servers}
        for turn in range(arguments.rounds):
            for server in servers if turn % 2 == 0 else reversed(servers):
                time.sleep(SETTLE_SECONDS)
                runs[server.name].append(await closed_loop(server.address, texts, num_clients, arguments.seconds))
        rows += load_rows(num_clients, runs[ours.name], runs[peer.name])
    rows.append(await turn_row(servers, arguments.turns))
    rows.append(
        Row(
            "memory after all that, mapped files not counted",
            *(f"{server.resident_bytes() / 2**20:.0f} MiB" for server in servers),
            f"{ours.resident_bytes() / peer.resident_bytes():.2f}x",
            "-",
            None,
            {server.name: server.resident_bytes() for server in servers},
        )
    )
    return rows


def load_rows(num_clients: int, ours: list[dict[str, Any]], peer: list[dict[str, Any]]) -> list[Row]:
    """What so many clients saw, as medians over the rounds."""
    title = f"{num_clients} client{'s' * (num_clients > 1)}"
    is_goal = num_clients == PARALLEL
    data = {"clients": num_clients, "ours": ours, "peer": peer}
    rows = []
    for name, key, unit, scale, goal in (
        ("output", "output_tokens_per_second", "tok/s", 1, f">= {MIN_SPEED}x"),
        ("first token p50", "first_token_p50", "ms", 1000, "-"),
        ("first token p95", "first_token_p95", "ms", 1000, f"<= {MAX_FIRST_TOKEN}x"),
        ("inter-token p50", "inter_token_p50", "ms", 1000, "-"),
        ("inter-token p95", "inter_token_p95", "ms", 1000, "-"),
        ("gap between events p95", "event_gap_p95", "ms", 1000, "-"),
    ):
        ratio = statistics.median(our[key] / theirs[key] for our, theirs in zip(ours, peer, strict=True))
        met = (ratio >= MIN_SPEED if scale == 1 else ratio <= MAX_FIRST_TOKEN) if is_goal and goal != "-" else None
        texts = [f"{statistics.median(run[key] for run in runs) * scale:.1f} {unit}" for runs in (ours, peer)]
        row_data = data | {"ratio": ratio} if key == "output_tokens_per_second" else {"ratio": ratio}
        rows.append(Row(f"{title}, {name}", *texts, f"{ratio:.2f}x", goal if is_goal else "-", met, row_data))
    return rows


async def turn_row(servers: tuple[ServerProcess, ServerProcess], num_chats: int) -> Row:
    """How much sooner a second turn starts than the first, which no server has seen before."""
    texts = documents(CHAT_TOKENS, seed=6)
    runs: dict[str, list[dict[str, float]]] = {server.name: [] for server in servers}
    for index in range(num_chats):
        document = next(texts)
        for server in servers if index % 2 == 0 else reversed(servers):
            time.sleep(SETTLE_SECONDS)
            runs[server.name].append(await two_turns(server.address, document, seed=index))
    shares = [
        statistics.median(run["second_turn"] / run["first_turn"] for run in runs[server.name]) for server in servers
    ]
    times = [
        f"{statistics.median(run['second_turn'] for run in runs[server.name]) * 1000:.0f} of "
        f"{statistics.median(run['first_turn'] for run in runs[server.name]) * 1000:.0f} ms ({share:.2f}x)"
        for server, share in zip(servers, shares, strict=True)
    ]
    return Row(
        f"second turn of a chat of {CHAT_TOKENS} tokens against the first, first token",
        *times,
        f"{shares[0]:.3f}x",
        f"<= {MAX_SECOND_TURN}x",
        shares[0] <= MAX_SECOND_TURN,
        {"shares": shares, "runs": runs},
    )


def versions() -> dict[str, str]:
    """Of what was measured."""
    result = subprocess.run([str(LLAMA_SERVER), "--version"], check=True, capture_output=True, text=True)
    requirement = (HERE / "requirements-llamacpp.txt").read_text().splitlines()[-1]
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("gemcut", "starlette", "uvicorn")},
        "llama-server": (result.stdout + result.stderr).strip().splitlines()[0],
        "from": requirement,
    }


if __name__ == "__main__":
    main()
