"""Which engine and number format a request means, and what loading weights costs."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from gemcut.checkpoint import load, open_checkpoint
from gemcut.checkpoint.load import (
    choose_dtype,
    choose_engine,
    choose_keras_engine,
    random_model,
    start_engine,
    to_backend,
)
from gemcut.config.parameters import parameter_shapes
from gemcut.errors import BackendError, MissingExtraError, UsageError


@pytest.fixture
def no_keras(monkeypatch):
    """As in a process that has not imported Keras yet."""
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)


@pytest.fixture
def installed(monkeypatch):
    """Makes only the named engines look installed; the native one unless it is named is not."""

    def only(*names):
        real = importlib.util.find_spec
        engines = ("jax", "tensorflow", "torch")

        def find_spec(name, *rest):
            return real("json") if name in names else None if name in engines else real(name, *rest)

        monkeypatch.setattr(importlib.util, "find_spec", find_spec)
        monkeypatch.setattr(load, "is_built", lambda: "native" in names)

    return only


def test_unknown_engine_is_named(no_keras):
    with pytest.raises(UsageError, match="engine is 'cuda', expected one of auto, native, jax, tensorflow, torch"):
        choose_engine("cuda")


def test_installation_without_the_native_engine(no_keras, installed):
    installed("jax")
    message = r'engine "native": this installation has no C\+\+ engine. Install Gemcut again with a C\+\+ compiler'
    with pytest.raises(MissingExtraError, match=message):
        choose_engine("native")


def test_auto_is_native_where_no_accelerator_is(no_keras, installed, monkeypatch):
    installed("native", "jax", "torch")
    asked = []
    monkeypatch.setattr(load, "has_accelerator", lambda engines: asked.append(engines) or False)
    assert choose_engine() == "native"
    assert asked == [["jax", "torch"]]
    monkeypatch.setattr(load, "has_accelerator", lambda engines: True)
    assert choose_engine() == "jax"
    assert choose_engine("native") == "native"
    installed("native")
    assert choose_engine() == "native"


def test_keras_backend_comes_before_the_native_engine(no_keras, installed, monkeypatch):
    installed("native", "jax", "torch")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert choose_engine() == "torch"


def test_engine_for_what_the_native_one_cannot_do(no_keras, installed):
    installed("native", "tensorflow")
    assert choose_keras_engine() == "tensorflow"
    installed("native")
    with pytest.raises(MissingExtraError, match="none of jax, tensorflow and torch is installed"):
        choose_keras_engine()


def test_native_engine_has_no_random_weights(no_keras, configs):
    with pytest.raises(UsageError, match='engine "native" has no random weights: it computes with files only'):
        random_model(configs["llama"], "native")


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("jax", "tensorflow", "torch"), "jax"),
        (("tensorflow", "torch"), "tensorflow"),
        (("torch",), "torch"),
    ],
    ids=["all", "without-jax", "torch-only"],
)
def test_auto_takes_the_first_that_is_installed(no_keras, installed, names, chosen):
    installed(*names)
    assert choose_engine() == chosen
    assert choose_engine(names[-1]) == names[-1]


def test_auto_without_any_engine(no_keras, installed):
    installed()
    message = (
        r'engine "auto": this installation has no C\+\+ engine, and none of jax, tensorflow and torch is installed. '
        r'Install one: pip install "gemcut\[jax\]"'
    )
    with pytest.raises(MissingExtraError, match=message):
        choose_engine()


def test_engine_that_is_not_installed(no_keras, installed):
    installed("jax")
    message = r'engine "torch": it is not installed. Install it: pip install "gemcut\[torch\]"'
    with pytest.raises(MissingExtraError, match=message):
        choose_engine("torch")


def test_auto_follows_keras_backend(no_keras, installed, monkeypatch):
    installed("jax", "torch")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert choose_engine() == "torch"


def test_keras_backend_that_is_no_engine(no_keras, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "openvino")
    with pytest.raises(
        UsageError, match="KERAS_BACKEND is 'openvino', expected one of jax, tensorflow, torch. Name one"
    ):
        choose_engine()
    assert choose_engine("jax") == "jax"


def test_keras_that_does_not_import(no_keras, monkeypatch):
    def fail(name):
        raise ImportError("No module named 'keras'")

    monkeypatch.setattr(importlib, "import_module", fail)
    message = r'''engine "jax": Keras does not import here \(No module named 'keras'\). Install it: pip install "gemcut\[jax\]"'''
    with pytest.raises(MissingExtraError, match=message):
        start_engine("jax")


def test_no_threads_make_no_sense(no_keras):
    with pytest.raises(UsageError, match="threads is 0, expected at least 1"):
        start_engine("jax", 0)


def test_unknown_dtype_is_named():
    with pytest.raises(UsageError, match="dtype is 'int8', expected one of auto, float32, bfloat16, float16"):
        choose_dtype("int8", "jax")


@pytest.mark.backend
@pytest.mark.keras
class TestStarted:
    """With Keras on the engine of this process."""

    def test_another_engine_is_refused(self, engine):
        import keras

        assert keras.backend.backend() == engine
        other = "torch" if engine == "jax" else "jax"
        message = (
            f'engine "{other}": Keras already runs on {engine} in this process and cannot change. '
            rf"Start a new process and ask for {other} first \(or set KERAS_BACKEND={other}\)"
        )
        with pytest.raises(BackendError, match=message):
            choose_engine(other)
        assert choose_engine("auto") == choose_engine(engine) == engine

    def test_types_that_are_asked_for_are_used(self, engine):
        import keras

        assert keras.backend.backend() == engine
        for dtype in ("float32", "bfloat16", "float16"):
            assert choose_dtype(dtype, engine) == dtype

    def test_automatic_type_on_a_cpu(self, engine, monkeypatch):
        monkeypatch.setattr(load, "_has_accelerator", lambda engine: False)
        if engine == "torch":
            import torch

            monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
            assert choose_dtype("auto", engine) == "bfloat16"
            monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
            monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert choose_dtype("auto", engine) == "float32"

    def test_automatic_type_on_an_accelerator(self, engine, monkeypatch):
        monkeypatch.setattr(load, "_has_accelerator", lambda engine: True)
        assert choose_dtype("auto", engine) == "bfloat16"

    def test_threads_that_come_too_late_are_told(self, engine, caplog):
        if engine == "torch":
            pytest.skip("PyTorch changes its number of threads at any time")
        import keras

        assert keras.backend.backend() == engine
        with caplog.at_level(logging.WARNING, "gemcut"):
            start_engine(engine, 3)
        assert f"{engine}: 3 threads asked for, but it has already started with its own number" in caplog.text

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
    def test_weights_keep_their_numbers(self, engine, configs, random_weights, write_hf, dtype):
        config = configs["gemma3"]
        weights = random_weights(config)
        with open_checkpoint(write_hf(config, weights, dtype)) as checkpoint:
            model = load.load_model(checkpoint, engine, dtype)
        found = {}
        for variable in model.keras_model.variables:
            value = variable.value.detach().float() if engine == "torch" else variable.value
            found[variable.path] = np.asarray(value).astype(np.float32)
        assert model.dtype == dtype
        model.close()
        number_format = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}[dtype]
        kept = np.concatenate([array.ravel() for array in found.values()])
        expected = np.concatenate(
            [array.astype(number_format).astype(np.float32).ravel() for array in weights.values()]
        )
        assert np.sort(kept).tolist() == np.sort(expected).tolist()

    def test_random_model_has_the_shapes_of_its_configuration(self, engine, configs):
        model = random_model(configs["llama"], engine, "float32")
        shapes = parameter_shapes(configs["llama"])
        assert model.keras_model.count_params() == sum(int(np.prod(shape)) for shape in shapes.values())
        assert np.isfinite(model.logits([1, 2, 3])).all()
        model.close()

    @pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16], ids=lambda dtype: dtype.__name__)
    def test_array_becomes_a_tensor_of_the_same_numbers(self, engine, dtype):
        array = np.random.default_rng(0).standard_normal((5, 3)).astype(dtype)
        tensor = to_backend(array.copy(), engine)
        assert dtype.__name__ in str(tensor.dtype)
        value = tensor.float() if engine == "torch" else tensor
        assert (np.asarray(value).astype(np.float32) == array.astype(np.float32)).all()

    @pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=lambda dtype: dtype.__name__)
    def test_an_array_may_begin_anywhere(self, engine, dtype):
        from keras import ops

        memory = np.empty(64 * 64 * 4 + 128, np.uint8)
        begin = -memory.ctypes.data % 64 + 4
        array = memory[begin : begin + 64 * 64 * dtype(0).nbytes].view(dtype).reshape(64, 64)
        array[...] = np.eye(64)
        product = ops.cast(ops.matmul(*[to_backend(array, engine)] * 2), "float32")
        assert (np.asarray(product) == np.eye(64)).all()


MEMORY_CHILD = """
import json, os, sys, threading, time
engine, path = sys.argv[1:]
os.environ["KERAS_BACKEND"] = engine
import keras

def anonymous_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

keras.ops.matmul(keras.ops.ones((2, 2)), keras.ops.ones((2, 2)))
before, peak, done = anonymous_bytes(), 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.002):
        peak = max(peak, anonymous_bytes())

watcher = threading.Thread(target=watch)
watcher.start()
import gemcut
lm = gemcut.load(path, engine=engine, dtype="float32")
done.set()
watcher.join()
print(json.dumps(max(peak, anonymous_bytes()) - before))
"""


@pytest.mark.backend
@pytest.mark.keras
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="only Linux tells a process its anonymous memory")
def test_memory_at_load_of_the_real_model(engine, starter_path):
    """Anonymous memory over the interpreter with the backend: weights + the largest tensor + 0.5 GiB, all float32."""
    child = subprocess.run(
        [sys.executable, "-c", MEMORY_CHILD, engine, str(starter_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    with open_checkpoint(starter_path) as checkpoint:
        sizes = [4 * int(np.prod(shape)) for shape in parameter_shapes(checkpoint.config).values()]
    assert json.loads(child.stdout.splitlines()[-1]) <= sum(sizes) + max(sizes) + 2**29


@pytest.mark.backend
@pytest.mark.keras
def test_jax_is_imported_for_its_own_engine_only(engine):
    code = (
        "import sys; from gemcut.checkpoint.load import start_engine\n"
        f"start_engine({engine!r}); print('jax' in sys.modules)\nimport jax; print(jax.numpy.ones(1).shape)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert child.stdout.split("\n")[:2] == [str(engine == "jax"), "(1,)"]
