"""Measure the C++ engine against llama.cpp on one GGUF file, in minutes: few runs, settings of the peer by hand.

    python benchmarks/quick_engine.py FILE.gguf [--threads N] [--peer-flags=--no-repack] [--works decode,prefill]

The whole comparison, with the peer's best settings found for each row, is bench_engine.py. Prints one JSON line a work.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

from alternating import Worker
from engine_models import HERE, LLAMACPP_PYTHON

WORKS: dict[str, tuple[dict[str, Any], int]] = {  # request, tokens it computes
    "decode": ({"do": "decode", "depth": 0, "num_tokens": 24}, 24),
    "deep": ({"do": "decode", "depth": 2048, "num_tokens": 24}, 24),
    "prefill": ({"do": "prefill", "num_tokens": 512}, 512),
    "batch": ({"do": "batch", "num_sequences": 8, "depth": 8, "num_tokens": 12}, 96),
}


def main() -> None:
    """Alternate the two programs, one work after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--peer-flags", default="")
    parser.add_argument("--works", default="decode,prefill,batch")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    shared = [options.file, "--threads", options.threads]
    peer = [str(LLAMACPP_PYTHON), str(HERE / "peer_llamacpp.py"), *shared, *options.peer_flags.split()]
    with (
        Worker("gemcut", [sys.executable, str(HERE / "worker_engine.py"), *shared]) as ours,
        Worker("llama.cpp", peer) as theirs,
    ):
        for work in options.works.split(","):
            request, tokens = WORKS[work]
            speeds: dict[str, list[float]] = {"gemcut": [], "llama.cpp": []}
            for round_number in range(options.rounds + 1):  # the first one warms up
                for worker in (ours, theirs):
                    seconds = worker.ask(request)["seconds"]
                    if round_number:
                        speeds[worker.name].append(tokens / seconds)
            medians = {name: round(statistics.median(values), 1) for name, values in speeds.items()}
            ratio = round(medians["gemcut"] / medians["llama.cpp"], 2)
            print(json.dumps({"work": work, "threads": options.threads, **medians, "ratio": ratio}), flush=True)


if __name__ == "__main__":
    main()
