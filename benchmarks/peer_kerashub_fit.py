"""KerasHub's `fit` as a peer: trains on given rows in its own environment, and says what it took.

    KERAS_BACKEND=jax python peer_kerashub_fit.py REQUEST.json ANSWER.json

The request has the keys of peer_trl.py; one of its steps is "rows_per_step" batches of one row here. `enable_lora` is
asked for all seven matrices. KerasHub knows no packed documents: a token sees those before it in the row, which is as
much work. A row's targets that are not learnt weigh nothing.
"""

from __future__ import annotations

import importlib.metadata
import json
import resource
import sys
import time
from pathlib import Path

import keras
import keras_hub
import numpy as np

LAYERS = {
    "q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "attention_output", "gate_proj": "ffw_gating",
    "up_proj": "ffw_gating_2", "down_proj": "ffw_linear",
}  # fmt: skip


class Clock(keras.callbacks.Callback):
    """Seconds, processor seconds and loss of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[float, float, float]] = []

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Begin to count."""
        self._begin = time.perf_counter(), time.process_time()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Keep what the batch took; reading its loss waits for it."""
        loss = float(logs["loss"])
        self.batches.append((time.perf_counter() - self._begin[0], time.process_time() - self._begin[1], loss))


def main() -> None:
    """Train, then write seconds, losses and memory."""
    request = json.loads(Path(sys.argv[1]).read_text())
    keras.utils.set_random_seed(0)
    model = keras_hub.models.Gemma3CausalLM.from_preset(request["folder"], preprocessor=None, dtype=request["dtype"])
    names = [LAYERS[target] for target in request["targets"]]
    unknown = {*names} - {layer.name for layer in model.backbone._flatten_layers(include_self=False)}
    if unknown:  # KerasHub would leave them out without a word
        raise RuntimeError(f"no layers of these names: {', '.join(sorted(unknown))}")
    model.backbone.enable_lora(request["rank"], target_layer_names=names)
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=keras.optimizers.AdamW(request["learning_rate"], weight_decay=0.0, global_clipnorm=1.0),
        weighted_metrics=[],
    )
    rows = np.load(request["rows"])
    count = request["rows_per_step"] * request["num_steps"]
    ids, targets = rows["token_ids"][:count], rows["targets"][:count]
    clock = Clock()
    model.fit(
        {"token_ids": ids, "padding_mask": rows["segments"][:count] > 0},
        np.maximum(targets, 0),
        sample_weight=(targets >= 0).astype("float32"),
        batch_size=1,
        shuffle=False,
        verbose=0,
        callbacks=[clock],
    )
    steps = np.array(clock.batches).reshape(request["num_steps"], request["rows_per_step"], 3)
    packages = (
        "keras",
        "keras-hub",
        {"jax": "jax", "torch": "torch", "tensorflow": "tensorflow"}[keras.backend.backend()],
    )
    answer = {
        "seconds": steps[:, :, 0].sum(1).tolist(),
        "cpu_seconds": steps[:, :, 1].sum(1).tolist(),
        "losses": steps[:, -1, 2].tolist(),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": {package: importlib.metadata.version(package) for package in packages},
        "trainable": int(sum(np.prod(weight.shape) for weight in model.trainable_weights)),
    }
    Path(sys.argv[2]).write_text(json.dumps(answer))


main()
