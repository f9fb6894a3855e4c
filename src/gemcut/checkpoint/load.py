"""From an open checkpoint to a model on an engine: the backend, the type, the weights one by one."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gemcut.checkpoint.accelerator import has_accelerator
from gemcut.checkpoint.lazy_tensor import DTYPES as STORED_DTYPES
from gemcut.checkpoint.native import open_native
from gemcut.engine import NativeCheckpoint, NativeLanguageModel, is_built
from gemcut.errors import BackendError, MissingExtraError, UsageError
from gemcut.files import forget_pages
from gemcut.hub import cache_folder

if TYPE_CHECKING:
    from gemcut.checkpoint.adapter import Adapter
    from gemcut.checkpoint.checkpoint import Checkpoint
    from gemcut.config import DecoderConfig
    from gemcut.interfaces import LanguageModel
    from gemcut.model.language_model import KerasLanguageModel

logger = logging.getLogger("gemcut")

KERAS_ENGINES = ("jax", "tensorflow", "torch")  # in the order that "auto" tries them
ENGINES = ("auto", "native", *KERAS_ENGINES)
DTYPES = ("auto", "float32", "bfloat16", "float16")
ALIGNMENT = 64  # bytes, what XLA asks of memory that it does not copy
BLOCK_BYTES = 64 << 20
_NONE_INSTALLED = 'none of jax, tensorflow and torch is installed. Install one: pip install "gemcut[jax]"'
LAYOUTS = "layouts"  # the folder of packed weights inside Gemcut's cache
MIN_LAYOUT_BYTES = 64 << 20  # smaller models are packed in less time than it takes to notice


def choose_engine(engine: str = "auto") -> str:
    """The engine that a request means in this process.

    Args:
        engine: One of ENGINES. "auto" is the backend that Keras already runs on, else KERAS_BACKEND, else native
            where this installation has it and no accelerator is there for another one, else the first of jax,
            tensorflow and torch that is installed.

    Raises:
        UsageError: no such engine.
        MissingExtraError: it is not installed.
        BackendError: Keras already runs on another backend in this process.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine is {engine!r}, expected one of {', '.join(ENGINES)}.")
    running = sys.modules["keras"].backend.backend() if "keras" in sys.modules else None
    if engine == "auto":
        engine = running if running in KERAS_ENGINES else _preferred_engine()
    if engine == "native":
        if not is_built():
            raise MissingExtraError(
                'engine "native": this installation has no C++ engine. Install Gemcut again with a C++ compiler at '
                "hand, or use --engine jax, torch or tensorflow."
            )
        return engine
    if not _installed(engine):
        raise MissingExtraError(f'engine "{engine}": it is not installed. Install it: pip install "gemcut[{engine}]"')
    if running not in (None, engine):
        raise BackendError(
            f'engine "{engine}": Keras already runs on {running} in this process and cannot change. '
            f"Start a new process and ask for {engine} first (or set KERAS_BACKEND={engine})."
        )
    return engine


def choose_keras_engine() -> str:
    """What "auto" means where the native engine cannot serve.

    Raises:
        MissingExtraError: none of the Keras engines is installed.
        BackendError: as `choose_engine`.
    """
    installed = [engine for engine in KERAS_ENGINES if _installed(engine)]
    if not installed:
        raise MissingExtraError(f'engine "auto": {_NONE_INSTALLED}')
    return choose_engine(installed[0])


def start_engine(engine: str, threads: int | None = None) -> None:
    """Import Keras on `engine` with `threads` CPU threads (None: the engine's default).

    Raises:
        BackendError: a thread number comes too late for an engine that already started.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}, expected at least 1.")
    os.environ["KERAS_BACKEND"] = engine
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if threads is not None:
        _set_threads(engine, threads)
    try:
        with _quiet_start() if engine == "tensorflow" else contextlib.nullcontext(), _without_jax(engine):
            importlib.import_module("keras")
    except ImportError as error:
        raise MissingExtraError(
            f'engine "{engine}": Keras does not import here ({error}). Install it: pip install "gemcut[{engine}]"'
        ) from error


def choose_dtype(dtype: str, engine: str) -> str:
    """The compute type that a request means on a started engine; see design of "auto" in `docs/engines.md`.

    Raises:
        UsageError: no such type.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}.")
    if dtype != "auto":
        return dtype
    if _has_accelerator(engine):
        return "bfloat16"
    if engine == "torch":
        import torch

        if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
            return "bfloat16"
    return "float32"


def load_model(
    checkpoint: Checkpoint | NativeCheckpoint,
    engine: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    adapter: Adapter | None = None,
) -> LanguageModel:
    """The checkpoint's model on an engine.

    Args:
        checkpoint: From `open_checkpoint`, or, for the native engine, opened by that.
        engine: One of ENGINES.
        dtype: One of DTYPES.
        threads: CPU threads; None for the engine's default.
        adapter: What is added to the matrices' products; None for nothing.
    """
    engine = choose_engine(engine)
    if engine == "native":
        return load_native(checkpoint, dtype, threads, adapter)
    assert not isinstance(checkpoint, NativeCheckpoint), "only the native engine opens those"
    return load_keras_model(checkpoint, engine, dtype, threads, adapter)


def load_native(
    checkpoint: Checkpoint | NativeCheckpoint, dtype: str, threads: int | None, adapter: Adapter | None = None
) -> NativeLanguageModel:
    """The model on the C++ engine; its packed weights are kept for the next start in Gemcut's cache folder."""
    if dtype not in DTYPES:
        raise UsageError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}.")
    if not isinstance(checkpoint, NativeCheckpoint):
        with open_native(checkpoint.path) as opened:
            return load_native(opened, dtype, threads, adapter)
    folder = cache_folder() / LAYOUTS if checkpoint.weights_bytes >= MIN_LAYOUT_BYTES else None
    updates = adapter.updates if adapter else None
    return NativeLanguageModel(checkpoint, dtype=dtype, threads=threads, layout_folder=folder, updates=updates)


def load_keras_model(
    checkpoint: Checkpoint, engine: str, dtype: str, threads: int | None, adapter: Adapter | None = None
) -> KerasLanguageModel:
    """The model on a Keras engine: each tensor goes from the file to the device before the next one is read."""
    start_engine(engine, threads)

    memory = WeightMemory()

    def source(names: tuple[str, ...], shape: tuple[int, ...], dtype: str) -> Any:
        values, row = memory.empty(shape, dtype), 0
        for name in names:
            tensor = checkpoint.tensors[name]
            tensor.read(dtype, out=values[row : row + tensor.shape[0]])
            forget_pages(tensor.raw)
            row += tensor.shape[0]
        return to_backend(values, engine)

    return _build(checkpoint.config, source, choose_dtype(dtype, engine), adapter)


def random_model(
    config: DecoderConfig, engine: str = "auto", dtype: str = "auto", threads: int | None = None
) -> KerasLanguageModel:
    """A model of the same shape with random weights, to measure speed and memory without a download.

    Raises:
        UsageError: the native engine is asked for by name; it computes with files only.
    """
    if engine == "native":
        raise UsageError('engine "native" has no random weights: it computes with files only. Use another --engine.')
    chosen = choose_engine(engine)
    engine = choose_keras_engine() if chosen == "native" else chosen
    start_engine(engine, threads)
    return _build(config, None, choose_dtype(dtype, engine))


class WeightMemory:
    """Memory for weights that backends on CPU can take over as it is.

    NumPy asks for huge pages for large arrays, and reading weights from those is up to a quarter faster
    (docs/tried.md); so small tensors share large arrays. Pages that are never written cost nothing.
    """

    def __init__(self) -> None:
        self._block = np.empty(0, np.uint8)

    def empty(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """An uninitialised array that begins at a multiple of ALIGNMENT bytes."""
        element = STORED_DTYPES[dtype]
        num_bytes = math.prod(shape) * element.itemsize
        if num_bytes + ALIGNMENT > self._block.nbytes:
            self._block = np.empty(max(num_bytes + ALIGNMENT, BLOCK_BYTES), np.uint8)
        array, self._block = _cut(self._block, shape, element)
        return array


def _cut(memory: np.ndarray, shape: tuple[int, ...], element: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """An array in uint8 memory, from its first multiple of ALIGNMENT bytes on, and the memory behind it."""
    begin = -memory.ctypes.data % ALIGNMENT
    end = begin + math.prod(shape) * element.itemsize
    return memory[begin:end].view(element).reshape(shape), memory[end:]


def to_backend(array: np.ndarray, engine: str) -> Any:
    """A NumPy array as a tensor of the engine, which takes its memory over where it can.

    Args:
        array: float32, float16, bfloat16 (ml_dtypes) or uint8, writable, not used otherwise afterwards.
        engine: One of KERAS_ENGINES.
    """
    if engine == "jax":
        import jax

        return jax.device_put(array, may_alias=True)
    if engine == "torch":
        import torch

        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
        return torch.from_numpy(array)
    import tensorflow as tf

    if array.ctypes.data % ALIGNMENT:  # its kernels would end the process
        unaligned = array
        array, _ = _cut(np.empty(array.nbytes + ALIGNMENT, np.uint8), array.shape, array.dtype)
        array[...] = unaligned
    if array.dtype.name == "bfloat16":  # NumPy's exchange protocol has no bfloat16
        return tf.bitcast(tf.experimental.dlpack.from_dlpack(array.view(np.uint16).__dlpack__()), tf.bfloat16)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


@contextlib.contextmanager
def _without_jax(engine: str) -> Iterator[None]:
    """Hide JAX from Keras while that is imported for another engine; afterwards it imports as ever.

    Keras 3.15 imports it, where it is installed, to correct old versions of it for a callback that is not used here:
    107 MiB of memory and a quarter to half a second.
    """
    if engine == "jax" or "jax" in sys.modules:
        yield
        return
    sys.modules["jax"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop("jax", None)


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Keep what TensorFlow's C++ code writes to standard error while it is imported; show it only on failure.

    Its own setting, TF_CPP_MIN_LOG_LEVEL, comes too late for the first lines.
    """
    sys.stderr.flush()
    kept, original = tempfile.TemporaryFile(), os.dup(2)  # noqa: SIM115 - closed below
    os.dup2(kept.fileno(), 2)
    try:
        yield
    except BaseException:
        kept.seek(0)
        os.write(original, kept.read())
        raise
    finally:
        os.dup2(original, 2)
        os.close(original)
        kept.close()


def _build(config: DecoderConfig, source: Any, dtype: str, adapter: Adapter | None = None) -> KerasLanguageModel:
    from gemcut.model.decoder import Decoder
    from gemcut.model.language_model import KerasLanguageModel

    return KerasLanguageModel(Decoder(config, source, dtype, adapter.updates if adapter else None))


def _installed(engine: str) -> bool:
    return engine in KERAS_ENGINES and importlib.util.find_spec(engine) is not None


def _preferred_engine() -> str:
    """What KERAS_BACKEND names, else the first engine that is installed."""
    named = os.environ.get("KERAS_BACKEND")
    if named:
        if named not in KERAS_ENGINES:
            raise UsageError(
                f"KERAS_BACKEND is {named!r}, expected one of {', '.join(KERAS_ENGINES)}. Name one, or unset it."
            )
        return named
    installed = [engine for engine in KERAS_ENGINES if _installed(engine)]
    if is_built() and not (installed and has_accelerator(installed)):
        return "native"
    if installed:
        return installed[0]
    raise MissingExtraError(f'engine "auto": this installation has no C++ engine, and {_NONE_INSTALLED}')


def _set_threads(engine: str, threads: int) -> None:
    if engine == "torch":
        import torch

        torch.set_num_threads(threads)
        return
    if engine in sys.modules:
        logger.warning("%s: %d threads asked for, but it has already started with its own number.", engine, threads)
        return
    if engine == "jax":
        os.environ["NPROC"] = str(threads)  # XLA's CPU client sizes its pool by it
        return
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _has_accelerator(engine: str) -> bool:
    if engine == "jax":
        import jax

        return bool(jax.default_backend() != "cpu")
    if engine == "torch":
        import torch

        return bool(torch.cuda.is_available())
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))
