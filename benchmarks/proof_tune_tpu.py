"""Compile the steps of tuning for eight TPU chips with the real TPU compiler: bytes of each chip, for 2B and 7B.

python benchmarks/proof_tune_tpu.py [MODEL METHOD LAYOUT]

No TPU is needed: libtpu compiles for a topology that is described to it. It comes from .venv-tpu
(requirements-tpu.txt); JAX and the rest from .venv. What is compiled is what a run on that machine compiles: the
programs of `tune/train_step_jax_sharded.py`, with shapes in place of weights.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import sys
import time
import types
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
os.environ |= {
    "KERAS_BACKEND": "jax",
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
}
sys.path.extend(str(path) for path in HERE.parent.glob(".venv-tpu/lib/python*/site-packages"))

import jax  # noqa: E402
import numpy as np  # noqa: E402
from jax.experimental import topologies  # noqa: E402
from jax.sharding import NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as Spec  # noqa: E402

from gemcut.config import DecoderConfig, published  # noqa: E402
from gemcut.config.parameters import parameter_shapes  # noqa: E402
from gemcut.tune.layout import DATA, Layout, Placement  # noqa: E402
from gemcut.tune.losses import ROW_CHUNK  # noqa: E402
from gemcut.tune.optimizers import optimizer_of  # noqa: E402
from gemcut.tune.recipe import Recipe  # noqa: E402
from gemcut.tune.sharded_model import method_of  # noqa: E402
from gemcut.tune.sharded_weights import frozen_tree  # noqa: E402
from gemcut.tune.train_step_jax_sharded import BATCH, Functions, Specs, grid_of, sharded_program, spec_of  # noqa: E402

TOPOLOGY, CHIP_BYTES = "v5e:2x4", 16 << 30
NUM_ROWS, LENGTH = 8, 1024
LAYOUTS = {"fsdp": Layout("fsdp", 8), "tensor": Layout("tensor", 8, 8), "data": Layout("data", 8)}
CASES = [
    (model, method, layout) for model in ("gemma-2b", "gemma-7b") for method in ("lora", "full") for layout in LAYOUTS
]
RESULT = HERE / "results" / "tune-tpu.json"


def main() -> None:
    """Compile each case and keep what the compiler says."""
    cases = [tuple(sys.argv[1:4])] if len(sys.argv) > 3 else CASES
    kept = json.loads(RESULT.read_text())["cases"] if RESULT.exists() else {}
    jax.default_backend = lambda: "tpu"  # so that leaf operations take the form that they have there
    for case in CASES:  # at once, where compiling takes minutes
        kept[" ".join(case)] = kept.get(" ".join(case), {}) | {"state_bytes": Shapes(*case).state_bytes}
    write(kept)
    for case in cases:
        found = compiled(Shapes(*case))
        kept[" ".join(case)] |= found
        print(" ".join(case), json.dumps(found), flush=True)
        write(kept)


def write(cases: dict[str, Any]) -> None:
    """Keep the result."""
    result = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "make proof-tune-tpu",
        "versions": {name: importlib.metadata.version(name) for name in ("gemcut", "jax", "jaxlib", "libtpu")},
        "topology": TOPOLOGY,
        "batch": [NUM_ROWS, LENGTH],
        "recompute": "blocks",
        "cases": cases,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


class Shapes:
    """The programs of a case, and shapes in place of what they take."""

    def __init__(self, model: str, method_name: str, layout_name: str) -> None:
        config = published(model).config
        recipe = Recipe.from_dict({"model": model, "data": ["d"], "method": method_name, "batch_size": NUM_ROWS})
        placement = Placement(config, LAYOUTS[layout_name])
        placement.check(NUM_ROWS)
        mesh = grid_of(placement.layout, list(topologies.get_topology_desc(TOPOLOGY, platform="tpu").devices))
        method, own_method = (method_of(recipe, each, "bfloat16") for each in (config, placement.own_config))
        program = sharded_program(placement, method, own_method, recipe, "bfloat16", optimizer_of(recipe.optimizer))
        self.frozen: Any = {"layers": [{}] * config.num_hidden_layers}
        if method_name == "lora":
            self.frozen = frozen_shapes(config, placement, mesh)
        frozen_specs = jax.tree.map(lambda each: each.sharding.spec, self.frozen)
        specs = Specs.of(placement, method, program.optimizer, frozen_specs)
        self.functions = Functions.of(program, mesh, specs, method.shapes())
        self.trained = {
            name: shape_of(mesh, shape, "float32", spec_of(placement, name, shape))
            for name, shape in method.shapes().items()
        }
        self.slots = {
            name: dict.fromkeys(program.optimizer.slots(shape), self.trained[name])
            for name, shape in method.shapes().items()
        }
        self.batch, self.scalar = batch_shapes(mesh), shape_of(mesh, (), "float32", Spec())
        self.numbers = dict.fromkeys(program.optimizer.numbers(0, 1.0), self.scalar)

    @property
    def state_bytes(self) -> int:
        """Bytes of weights, trained tensors and optimiser on a chip, which stay between steps."""
        frozen = {id(leaf): leaf for leaf in jax.tree.leaves(self.frozen)}.values()
        return sum(map(bytes_of, [*frozen, *jax.tree.leaves([self.trained, self.slots])]))


def compiled(shapes: Shapes) -> dict[str, Any]:
    """Bytes of a chip in the gradients' and in the optimiser's program; or why there is none."""
    functions, trained, scalar = shapes.functions, shapes.trained, shapes.scalar
    try:
        return {
            "gradients": memory_of(functions.add_gradients, trained, trained, shapes.frozen, shapes.batch, scalar),
            "optimizer": memory_of(functions.apply, trained, shapes.slots, trained, scalar, shapes.numbers),
        }
    except jax.errors.JaxRuntimeError as problem:
        return {"refused": str(problem).splitlines()[0][:300]}


def frozen_shapes(config: DecoderConfig, placement: Placement, mesh: Any) -> Any:
    """The frozen tree with shapes in place of tensors."""
    tensors = {name: types.SimpleNamespace(shape=shape) for name, shape in parameter_shapes(config).items()}
    checkpoint: Any = types.SimpleNamespace(config=config, tensors=tensors)

    def place(name: str, shape: tuple[int, ...], read: Any) -> Any:
        del read
        return shape_of(mesh, shape, "bfloat16", spec_of(placement, name, shape))

    return frozen_tree(checkpoint, placement, "bfloat16", place)


def batch_shapes(mesh: Any) -> dict[str, Any]:
    """A micro-batch, as `ShardedTrainStep` hands it over."""
    num_data = mesh.shape[DATA]
    learnt = num_data * -(-NUM_ROWS // num_data * LENGTH // ROW_CHUNK) * ROW_CHUNK
    shapes = {"rows": (learnt,), "ids": (learnt,), "num_chunks": (num_data,)}
    return {name: shape_of(mesh, shapes.get(name, (NUM_ROWS, LENGTH)), "int32", Spec(DATA)) for name in BATCH}


def shape_of(mesh: Any, shape: tuple[int, ...], dtype: str, spec: Any) -> Any:
    """A tensor that is not there."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))


def bytes_of(tensor: Any) -> int:
    """Bytes of a tensor on one chip."""
    return int(np.prod(tensor.sharding.shard_shape(tensor.shape))) * np.dtype(tensor.dtype).itemsize


def memory_of(function: Any, *arguments: Any) -> dict[str, Any]:
    """What the compiler says that a chip needs, and the seconds that it took."""
    begin = time.perf_counter()
    memory = function.lower(*arguments).compile().memory_analysis()
    total = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    total += memory.temp_size_in_bytes
    return {
        "bytes": total,
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "fits": total <= CHIP_BYTES,
        "seconds": round(time.perf_counter() - begin, 1),
    }


if __name__ == "__main__":
    main()
