"""What the loss of 4,096 learnt tokens adds to a process's memory, with the starter's head of 262,144 rows.

    python benchmarks/proof_tune_memory.py [ENGINE ...]

Each figure is of a fresh process on Linux: the peak of its resident memory in loss and gradient, compiling included,
less its resident memory before. What the whole logits would take is kept beside it.
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ENGINES = ("jax", "torch", "tensorflow")
NUM_TOKENS, VOCAB_SIZE, WIDTH = 4096, 262_144, 640
BAR_BYTES = 1 << 30


def main() -> None:
    """Measure, print and keep; as a child, measure one engine and one type."""
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(added(*sys.argv[2:])))
        return
    rows = []
    for engine in sys.argv[1:] or ENGINES:
        for dtype in ("float32", "bfloat16"):
            environment = {**os.environ, "KERAS_BACKEND": engine, "TF_CPP_MIN_LOG_LEVEL": "2"}
            command = [sys.executable, __file__, "--child", engine, dtype]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{engine} {dtype}: {rows[-1]['added_bytes'] / 2**20:.0f} MiB, loss {rows[-1]['loss']:.4f} a token")
    result = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", "benchmarks/proof_tune_memory.py", *sys.argv[1:]]),
        "tokens": NUM_TOKENS,
        "head": [VOCAB_SIZE, WIDTH],
        "whole_logits_bytes": NUM_TOKENS * VOCAB_SIZE * 4,
        "bar_bytes": BAR_BYTES,
        "rows": rows,
    }
    (HERE / "results" / "tune-memory.json").write_text(json.dumps(result, indent=1) + "\n")
    raise SystemExit(any(row["added_bytes"] >= BAR_BYTES for row in rows))


def added(engine: str, dtype: str) -> dict[str, Any]:
    """Bytes that one loss with its gradient adds."""
    import importlib

    from keras import ops

    from gemcut.checkpoint.lazy_tensor import DTYPES
    from gemcut.checkpoint.load import to_backend
    from gemcut.model.backend_ops import leaf_ops
    from gemcut.tune.losses import ROW_CHUNK, frozen_head_loss

    module = importlib.import_module(f"gemcut.tune.train_step_{engine}")
    is_compiled = engine == "jax" or (engine == "tensorflow" and module.uses_xla(dtype))
    backend = module.BackendGradients()
    generator = np.random.default_rng(0)
    head, hidden = (
        to_backend((generator.standard_normal((rows, WIDTH), dtype=np.float32) * scale).astype(DTYPES[dtype]), engine)
        for rows, scale in ((VOCAB_SIZE, WIDTH**-0.5), (NUM_TOKENS, 1.0))
    )
    ids = generator.integers(0, VOCAB_SIZE, NUM_TOKENS).astype(np.int32)
    chunks = np.int32(NUM_TOKENS // ROW_CHUNK) if is_compiled else None

    def loss(hidden: Any, head: Any, ids: Any, num_chunks: Any) -> Any:
        return frozen_head_loss(hidden, head, ids, None, leaf_ops(), backend, num_chunks=num_chunks)

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else what was freed before would serve the loss without being counted
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    value, gradient = compiled(loss, engine, is_compiled)(hidden, head, ops.convert_to_tensor(ids), chunks)
    total = float(value)
    assert np.isfinite(float(ops.max(gradient)))
    return {
        "engine": engine,
        "dtype": dtype,
        "added_bytes": memory("VmHWM") - before,
        "before_bytes": before,
        "loss": total / NUM_TOKENS,
        "keras": importlib.metadata.version("keras"),
    }


def compiled(function: Any, engine: str, is_compiled: bool) -> Any:
    """The function as a training step has it."""
    if engine == "jax":
        import jax

        return jax.jit(function)
    if engine == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=is_compiled, autograph=False)
    import torch

    return torch.no_grad()(function)


def memory(key: str) -> int:
    """A figure of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) * 1024


if __name__ == "__main__":
    main()
