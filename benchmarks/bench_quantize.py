"""Measure the quantiser against llama.cpp's on one model: weighted error, divergence, size and speed.

    python benchmarks/bench_quantize.py MODEL CALIBRATION.txt EVALUATION.txt --llama BIN [--scratch DIR]

Kept in benchmarks/results/quantize.json. MODEL is a folder with a tokenizer, off every grid
(prepare_moved_starter.py); BIN holds llama-quantize and llama-imatrix. Both quantisers start from the same float16 GGUF
file. Errors are weighted by what llama-imatrix counted, which both are told; for the divergence each uses its own
tool's importance. The divergence is that of the weights alone: both files are computed in float32.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import resource
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gemcut.checkpoint import convert, open_checkpoint
from gemcut.checkpoint.importance import read_importance
from gemcut.inspect import calibrate, verify
from gemcut.quantize import quantize, type_named

RESULTS = Path(__file__).resolve().parent / "results" / "quantize.json"
MEASURED_TYPES = ("Q4_K", "Q6_K")
MOST_ERROR, LEAST_SPEED = 0.9, 1.5  # as a share of llama.cpp's
SPEED_ROWS, SPEED_COLUMNS = 4096, 2048


def llama(folder: Path, program: str, *arguments: str | Path) -> None:
    """Run one of llama.cpp's programs, quietly."""
    command = [str(folder / program), *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def files_of(options: argparse.Namespace) -> dict[str, Path]:
    """The float16 source, both importance files, both quantised files of every kind, and the best mix of Q4_0's size.

    Each is made where it is missing.
    """
    names = ["source.gguf", "llama-importance.gguf", "our-importance.gguf", "our-mix.gguf"]
    names += [f"{who}-{kind}.gguf" for who in ("llama", "our") for kind in ("Q4_0", *MEASURED_TYPES)]
    files = {name.removesuffix(".gguf"): options.scratch / name for name in names}
    source, their_importance, our_importance, mix = (files[name.removesuffix(".gguf")] for name in names[:4])
    if not source.exists():
        convert(options.model, source, "gguf", type="F16")
    if not their_importance.exists():
        llama(
            options.llama, "llama-imatrix", "-m", source, "-f", options.calibration, "-o", their_importance, "-c", "512"
        )
    if not our_importance.exists():
        calibrate(source, options.calibration, our_importance)
    for kind in ("Q4_0", *MEASURED_TYPES):
        pure = [] if kind == "Q4_0" else ["--pure"]
        if not files[f"llama-{kind}"].exists():
            arguments = [
                "--imatrix",
                their_importance,
                *pure,
                source,
                files[f"llama-{kind}"],
                kind.replace("Q4_K", "Q4_K_S"),
            ]
            llama(options.llama, "llama-quantize", *arguments)
        if kind == "Q4_0" and not files["our-Q4_0"].exists():
            convert(source, files["our-Q4_0"], "gguf", type="Q4_0", importance=our_importance)
    if not mix.exists():
        convert(source, mix, "gguf", target_bytes=files["our-Q4_0"].stat().st_size, importance=our_importance)
    return files


def weighted_errors(files: Mapping[str, Path], kind: str) -> dict[str, Any]:
    """Ratio ours to theirs of the weighted squared error, over the tensors that llama-quantize has in `kind`."""
    ratios, sums = {}, np.zeros(2)
    with open_checkpoint(files["source"]) as source, open_checkpoint(files[f"llama-{kind}"]) as theirs:
        importance = read_importance(files["llama-importance"], source.config)
        for name, tensor in theirs.tensors.items():
            if tensor.stored_type != kind or name not in importance:
                continue
            values = source.tensors[name].read()
            raw = quantize(values, type_named(kind), importance=importance[name])
            ours = _error(values, _decoded(raw, kind, values.shape), importance[name])
            peers = _error(values, tensor.read(), importance[name])
            ratios[name] = ours / peers
            sums += ours, peers
    return {
        "ratio_of_sums": float(sums[0] / sums[1]),
        "mean_ratio": float(np.mean(list(ratios.values()))),
        "ratios": ratios,
    }


def _decoded(raw: np.ndarray, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    from gemcut.quantize import dequantize

    return dequantize(raw.reshape(-1), type_named(kind), shape)


def _error(values: np.ndarray, stored: np.ndarray, importance: np.ndarray) -> float:
    return float((importance.astype(np.float64) * (values.astype(np.float64) - stored) ** 2).sum())


def divergence(files: Mapping[str, Path], name: str, options: argparse.Namespace) -> dict[str, float]:
    """Mean KL from the float16 source to one of the files, with its bytes."""
    plain = options.scratch / f"{name}-float32.gguf"
    if not plain.exists():
        convert(files[name], plain, "gguf", type="F32")
    report = verify(
        files["source"], plain, engine="native", dtype="float32", text=options.evaluation, num_tokens=options.tokens
    )
    logits = report["logits"]
    return {
        "mean_kl": logits["mean_kl"],
        "same_top_rate": logits["same_top_rate"],
        "perplexity_change": logits["perplexity_change"],
        "bytes": files[name].stat().st_size,
    }


def speed(options: argparse.Namespace) -> dict[str, float]:
    """Million weights a second of one core in Q4_K, ours alone on the kernel and llama-quantize's on the whole file."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.03, (SPEED_ROWS, SPEED_COLUMNS)).astype(np.float32)
    ours = []
    for _ in range(3):
        begin = time.process_time()
        quantize(values, type_named("Q4_K"), num_threads=1)
        ours.append(values.size / (time.process_time() - begin) / 1e6)
    theirs = _peer_speed(values, options)
    return {"ours": max(ours), "llama.cpp": theirs, "ratio": max(ours) / theirs}


def _peer_speed(values: np.ndarray, options: argparse.Namespace) -> float:
    """llama-quantize's user time for the same matrix, the only tensor of its file that is not copied."""
    import gguf

    small, out = options.scratch / "speed.gguf", options.scratch / "speed-out.gguf"
    seconds = []
    for rows in (32, SPEED_ROWS):  # the first measures what does not depend on the matrix
        writer = gguf.GGUFWriter(small, "gemma")
        for key, number in {"context_length": 64, "embedding_length": SPEED_COLUMNS, "block_count": 1}.items():
            writer.add_uint32(f"gemma.{key}", number)
        for key, number in {"feed_forward_length": rows, "attention.head_count": 1}.items():
            writer.add_uint32(f"gemma.{key}", number)
        writer.add_float32("gemma.attention.layer_norm_rms_epsilon", 1e-6)
        writer.add_tensor("blk.0.ffn_gate.weight", values[:rows])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        llama(options.llama, "llama-quantize", "--pure", small, out, "Q4_K_S", "1")
        seconds.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    return values.size / (seconds[1] - seconds[0]) / 1e6


def main() -> None:
    """Print one JSON document, and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("--llama", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, default=Path("quantize-scratch"))
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--llama-version", default="not stated", help="kept with the figures")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    # Paths are one machine's own, so the command is kept without them.
    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": "python benchmarks/bench_quantize.py MODEL CALIBRATION.txt EVALUATION.txt --llama BIN",
        "versions": {"gemcut": importlib.metadata.version("gemcut"), "llama.cpp": options.llama_version},
        "speed": speed(options),
    }
    files = files_of(options)
    for kind in MEASURED_TYPES:
        result[kind] = weighted_errors(files, kind)
    result["Q4_0"] = {who: divergence(files, f"{who}-Q4_0", options) for who in ("llama", "our")}
    result["mix of Q4_0's size"] = divergence(files, "our-mix", options)
    result["Q4_0"]["kl_ratio"] = result["Q4_0"]["our"]["mean_kl"] / result["Q4_0"]["llama"]["mean_kl"]
    result["met"] = {
        **{f"{kind} error": result[kind]["mean_ratio"] <= MOST_ERROR for kind in MEASURED_TYPES},
        "Q4_0 divergence": result["Q4_0"]["kl_ratio"] <= MOST_ERROR,
        "Q4_K speed": result["speed"]["ratio"] >= LEAST_SPEED,
    }
    text = json.dumps(result, indent=1)
    print(text)
    RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
