"""Decode, prefill and batched decode beside llama.cpp at the best of its settings."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

from alternating import Comparison
from engine_models import PEER_SETTINGS, Row, engine_worker, peer_worker, settings_name

THREADS = (2, 1)
MIN_BANDWIDTH_SHARE = 0.85


@dataclasses.dataclass(frozen=True)
class Work:
    """A request of worker_protocol.

    Attributes:
        name: For the table.
        request: As the workers take it.
        tokens: What the speed counts.
    """

    name: str
    request: dict[str, Any]
    tokens: int


WORKS: dict[str, tuple[Work, ...]] = {
    "decode": tuple(
        Work(f"decode at depth {depth}", {"do": "decode", "depth": depth, "num_tokens": 32}, 32) for depth in (0, 2048)
    ),
    "prefill": tuple(Work(f"prefill {n}", {"do": "prefill", "num_tokens": n}, n) for n in (512, 2048)),
    "batch": (Work("8 sequences", {"do": "batch", "num_sequences": 8, "depth": 64, "num_tokens": 16}, 8 * 16),),
}


def ratio_goal(model: str, kind: str, threads: int) -> float | None:
    """How many times llama.cpp's speed is wanted; None where another goal or none is set."""
    if kind == "decode":
        return {("starter", 2): 1.5, ("2b-q4_0", 1): 1.6, ("2b-q4_k_m", 1): 1.6}.get((model, threads))
    if kind == "prefill":
        return 1.5 if model == "2b-q4_k_m" else 2.2
    return 2.0


def measured_speed(model: str, kind: str, rounds: int, restarts: int) -> list[Row]:
    """The rows of one kind of work, each work at 2 threads and at 1.

    Both programs start anew `restarts` times; in each pair of processes the work is done `rounds` times by turns.
    """
    rows = []
    for threads in THREADS:
        best = best_settings(model, threads, WORKS[kind][0])
        comparisons = {work.name: Comparison(work.name, work.tokens) for work in WORKS[kind]}
        facts: list[dict[str, Any]] = []
        for _ in range(restarts):
            with engine_worker(model, threads) as ours:
                for work in WORKS[kind]:
                    with peer_worker(model, threads, best[0]) as peer:
                        comparisons[work.name].add_request(ours, peer, work.request, rounds)
                    facts.append(ours.ask({"do": "facts"}))
        for work in WORKS[kind]:
            settings, tried = best
            data = comparisons[work.name].as_json() | {"threads": threads, "model": model, "settings_tried": tried}
            rows.append(_row(data, kind, settings_name(settings), facts, work.request.get("depth", 0)))
    return rows


def best_settings(model: str, threads: int, work: Work) -> tuple[tuple[str, ...], dict[str, float]]:
    """llama.cpp's fastest settings for a kind's first work, by the better of two runs, and the speed of all of them."""
    speeds = {}
    for settings in PEER_SETTINGS:
        with peer_worker(model, threads, settings) as peer:
            speeds[settings] = work.tokens / min(peer.ask(work.request)["seconds"] for _ in range(2))
    best = max(speeds, key=lambda settings: speeds[settings])
    return best, {settings_name(settings): speed for settings, speed in speeds.items()}


def _row(data: dict[str, Any], kind: str, settings: str, facts: list[dict[str, Any]], depth: int) -> Row:
    ours, peer, threads, model = (
        data[key] for key in ("ours_tokens_per_second", "peer_tokens_per_second", "threads", "model")
    )
    goal, figure = ratio_goal(model, kind, threads), f"{data['ratio']:.2f}x"
    met = None if goal is None else data["ratio"] >= goal
    text = "-" if goal is None else f">= {goal}x"
    data |= {"peer_settings": settings, "facts": facts}
    if kind == "decode":
        bytes_per_token = facts[0]["weight_bytes_per_token"]
        bandwidth = statistics.median(fact["read_bytes_per_second"] for fact in facts)
        data["bandwidth_share"] = share = ours * bytes_per_token / bandwidth
        figure += f", {share:.0%} of memory bandwidth"
        if model != "starter" and threads == 2 and depth == 0:
            met, text = share >= MIN_BANDWIDTH_SHARE, f">= {MIN_BANDWIDTH_SHARE:.0%} of bandwidth (aim 1.15x)"
    return Row(
        f"{model}, {data['work']}, {threads} thread{'s' * (threads > 1)}",
        f"{ours:.1f} tok/s",
        f"{peer:.1f} tok/s ({settings})",
        figure,
        text,
        met,
        data,
    )
