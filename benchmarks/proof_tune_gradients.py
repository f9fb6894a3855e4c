"""Gradients of every factor equal PEFT's, and 50 steps of training equal TRL's, on each backend, in float32.

    python benchmarks/proof_tune_gradients.py [ENGINE ...]

Shrunk Gemma 1, 2 and 3 with random weights, an adapter on all seven matrices. PEFT and TRL run in .venv-peft.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "parity"))
from bench_tune import answer_of  # noqa: E402
from families import FAMILIES, write_reference  # noqa: E402
from training import batch_of, documents_of, step_of  # noqa: E402

PEER_PYTHON = HERE.parent / ".venv-peft" / "bin" / "python"
CHOSEN = ("gemma", "gemma2", "gemma3")
ENGINES = ("jax", "torch", "tensorflow")
LENGTHS, ROW_LENGTH = [[19, 11, 7], [29, 5]], 40
LORA: dict[str, Any] = {
    "rank": 4,
    "alpha": 6,
    "targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}
GRADIENT_BAR, CURVE_BAR = 1e-4, 1e-3
NUM_STEPS, ROWS_PER_STEP, RATE = 50, 4, 1e-3


def main() -> None:
    """Compare, print and keep; as a child, write one engine's gradients."""
    if sys.argv[1:2] == ["--child"]:
        write_gradients(*sys.argv[2:])
        return
    engines = sys.argv[1:] or list(ENGINES)
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "python benchmarks/proof_tune_gradients.py " + " ".join(sys.argv[1:]),
        "gradient_bar": GRADIENT_BAR,
        "curve_bar": CURVE_BAR,
        "families": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        for family in FAMILIES:
            if family.name in CHOSEN:
                folder = Path(scratch) / family.name
                write_reference(family, folder / "model")
                result["families"][family.name] = compared(folder, engines)
                for engine, each in result["families"][family.name]["engines"].items():
                    print(f"{family.name} on {engine}: gradients {each['gradient']:.1e}, curve {each['curve']:.1e}")
    (HERE / "results" / "tune-gradients.json").write_text(json.dumps(result, indent=1) + "\n")
    figures = [each for found in result["families"].values() for each in found["engines"].values()]
    if any(each["gradient"] > GRADIENT_BAR or each["curve"] > CURVE_BAR for each in figures):
        raise SystemExit(1)


def compared(folder: Path, engines: list[str]) -> dict[str, Any]:
    """One family: the worst share of a tensor's largest gradient, and the largest distance of the curves."""
    documents = documents_of([length for row in LENGTHS for length in row])
    (folder / "documents.json").write_text(json.dumps(documents))
    write_factors(folder)
    child(PEER_PYTHON, HERE / "peer_peft.py", folder / "model", folder / "adapter", folder / "documents.json",
          folder / "peft.safetensors")  # fmt: skip
    expected = safetensors.numpy.load_file(folder / "peft.safetensors")
    write_training_rows(folder / "rows.npz")
    peer = curve(folder, [str(PEER_PYTHON), str(HERE / "peer_trl.py")], {"folder": str(folder / "model")})
    found: dict[str, Any] = {"trl": {"losses": peer["losses"], "versions": peer["versions"]}, "engines": {}}
    for engine in engines:
        child(sys.executable, __file__, "--child", engine, folder)
        ours = safetensors.numpy.load_file(folder / f"{engine}.safetensors")
        worst = {
            name: float(np.abs(ours[name] - gradient).max() / np.abs(gradient).max())
            for name, gradient in expected.items()
        }
        request = {"model": str(folder / "model"), "engine": engine, "recompute": "blocks", "micro_rows": 2}
        losses = curve(folder, [sys.executable, str(HERE / "worker_tune.py")], request)["losses"]
        apart = [abs(one - other) for one, other in zip(losses, peer["losses"], strict=True)]
        found["engines"][engine] = {
            "gradient": max(worst.values()),
            "tensors": len(worst) - 1,
            "curve": max(apart),
            "losses": losses,
        }
    return found


def curve(folder: Path, command: list[str], request: dict[str, Any]) -> dict[str, Any]:
    """Losses of 50 steps from the same beginning."""
    common = LORA | {
        "rows": str(folder / "rows.npz"),
        "factors": str(folder / "adapter" / "adapter_model.safetensors"),
        "dtype": "float32",
        "rows_per_step": ROWS_PER_STEP,
        "num_steps": NUM_STEPS,
        "learning_rate": RATE,
        "gradient_checkpointing": False,
        "attention": "eager",
        "threads": 1,
        "scratch": str(folder / "trl"),
    }
    return answer_of(command, common | request, folder)


def write_factors(folder: Path) -> None:
    """An adapter none of whose factors is zero, as PEFT saves it."""
    from gemcut.checkpoint import open_checkpoint
    from gemcut.tune.export import export_adapter
    from gemcut.tune.lora import Lora
    from gemcut.tune.recipe import LoraSettings, Recipe

    with open_checkpoint(folder / "model") as checkpoint:
        settings = LoraSettings(**LORA | {"targets": tuple(LORA["targets"])})
        generator, method = np.random.default_rng(23), Lora(checkpoint.config, settings, "float32")
        trained = {
            name: generator.standard_normal(values.shape, dtype=np.float32) / 4 for name, values in method.initial()
        }
        recipe = Recipe(model=str(folder / "model"), data=("rows",), lora=settings)
        export_adapter(folder / "adapter", method.updates(trained), checkpoint, recipe, "no step")


def write_training_rows(path: Path) -> None:
    """Packed rows of random documents for all steps; a few that come again, so that there is something to learn."""
    rows = []
    for index in range(NUM_STEPS * ROWS_PER_STEP):
        documents = documents_of([17, 12, 9], seed=index % 12)
        rows.append(batch_of([documents], ROW_LENGTH))
    names = ("token_ids", "targets", "positions", "segments")
    np.savez(path, **{name: np.concatenate([getattr(row, name) for row in rows]) for name in names})


def write_gradients(engine: str, folder: str) -> None:
    """One engine's gradients of the packed documents."""
    documents = iter(json.loads((Path(folder) / "documents.json").read_text()))
    batch = batch_of([[next(documents) for _ in row] for row in LENGTHS], ROW_LENGTH)
    train = step_of(Path(folder) / "model", engine, lora=LORA)
    state = train.state()
    factors = safetensors.numpy.load_file(Path(folder) / "adapter" / "adapter_model.safetensors")
    for name, values in factors.items():
        state.trained[name.removeprefix("base_model.model.").removesuffix(".weight")] = values
    train.load_state(state)
    gradients = train.gradients((batch,))
    loss = np.array([train.run((batch,)).loss], np.float32)
    safetensors.numpy.save_file({**gradients, "loss": loss}, Path(folder) / f"{engine}.safetensors")


def child(*command: object) -> None:
    """Run a command; its errors are ours."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    if "--child" in command:
        environment["KERAS_BACKEND"] = str(command[command.index("--child") + 1])
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr[-3000:]}")


if __name__ == "__main__":
    main()
