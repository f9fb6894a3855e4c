"""Losses of a few steps in several layouts, as JSON: run in a process of its own, which has eight devices.

    python layout_losses.py ENGINE FOLDER METHOD LAYOUTS

ENGINE is jax or tensorflow. LAYOUTS is JSON: null for one device, or [name, devices, devices that share each product].
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["KERAS_BACKEND"] = sys.argv[1]
sys.path.insert(0, str(Path(__file__).parents[1] / "parity"))

import numpy as np
from training import batch_of, documents_of, recipe_of

from gemcut.checkpoint import open_checkpoint
from gemcut.tune.layout import Layout
from gemcut.tune.tuned_model import train_step_of

LENGTHS = [[19, 11, 7], [29, 5], [40], [3, 3], [10, 20], [12], [5, 5, 5, 5], [30]]  # a row each
ROW_LENGTH = 40
NUM_DEVICES = 8
NUM_STEPS = 3


def main() -> None:
    """Print, for each layout, the losses of the steps, the held-out loss after them, and the largest device's share."""
    engine, folder, method, layouts = sys.argv[1:]
    if engine == "tensorflow":
        import tensorflow as tf

        [processor] = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * NUM_DEVICES)
    found = [
        losses(engine, Path(folder), method, None if each is None else Layout(*each)) for each in json.loads(layouts)
    ]  # fmt: skip
    print(json.dumps(found))


def losses(engine: str, folder: Path, method: str, layout: Layout | None) -> list[float]:
    """The mean losses of the steps, the mean loss of a batch that nothing is learnt from, and the largest share."""
    recipe = recipe_of(method=method, batch_size=8, learning_rate=1e-3, schedule="constant", warmup=0)
    with open_checkpoint(folder) as checkpoint:
        vocab_size = checkpoint.config.vocab_size
        train = train_step_of(checkpoint, recipe, NUM_STEPS, engine, layout=layout)
        rest = iter(documents_of([each for row in LENGTHS for each in row], vocab_size=vocab_size))
        batch = batch_of([[next(rest) for _ in row] for row in LENGTHS], ROW_LENGTH)
        state, generator = train.state(), np.random.default_rng(3)
        if method == "lora":  # an adapter's B begins at zero, which hides half of the gradients
            state.trained = {
                name: generator.standard_normal(value.shape, dtype=np.float32) / 4
                for name, value in state.trained.items()
            }
            train.load_state(state)
        found = [train.run((batch, batch)).loss for _ in range(NUM_STEPS)]
        loss, num_targets = train.loss(batch)
        return [*found, loss / num_targets, 1.0 if engine == "tensorflow" else largest_share(train)]


def largest_share(train: Any) -> float:
    """Bytes of the device that holds most of the weights, of those of all weights."""
    import jax

    weights = jax.tree.leaves(train.frozen) or jax.tree.leaves(train.trained)
    tensors = {id(each): each for each in weights}.values()
    held = dict.fromkeys(jax.devices(), 0)
    for tensor in tensors:
        for shard in tensor.addressable_shards:
            held[shard.device] += shard.data.nbytes
    return max(held.values()) / sum(tensor.nbytes for tensor in tensors)


if __name__ == "__main__":
    main()
