"""How large the inputs of every matrix are on a text: what a quantiser should spare.

The decoder runs on a Keras engine in float32, uncompiled; what goes into its matrix products is squared and added up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gemcut.checkpoint import open_checkpoint
from gemcut.checkpoint.importance import Importance, write_importance
from gemcut.checkpoint.load import choose_engine, choose_keras_engine, load_model
from gemcut.config import DecoderConfig
from gemcut.config.parameters import EMBEDDING, OUTPUT_HEAD, fused_layer_shapes
from gemcut.errors import DataError, UsageError
from gemcut.files import read_bytes
from gemcut.generate.load import tokenizer_of
from gemcut.hub import resolve_whole

MAX_TEXT_BYTES = 64 << 20
WINDOW_TOKENS = 512
# More changes the result little: 20,000 tokens give every channel of a Gemma 3 270M its mean square to a few percent.
DEFAULT_TOKENS = 40 * WINDOW_TOKENS


def calibrate(
    model: str | os.PathLike[str],
    text: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    engine: str = "auto",
    num_tokens: int = DEFAULT_TOKENS,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Run a model over a text and write an importance file.

    Args:
        model: Any model reference; the best there is, before it is quantised.
        text: A UTF-8 text file, such as the model will meet.
        target: The file to write; llama.cpp reads it too.
        engine: "auto" or a Keras engine.
        num_tokens: How much of the text to use, at most; in windows of `WINDOW_TOKENS`.
        threads: CPU threads; None for the engine's default.
        progress: Called with a title, tokens done and tokens in all.

    Returns:
        target, engine, tokens, tensors.

    Raises:
        UsageError: the native engine is asked for, or fewer tokens than a window.
        DataError: the text is not UTF-8, or shorter than a window.
    """
    if num_tokens < WINDOW_TOKENS:
        raise UsageError(f"tokens is {num_tokens}, expected at least {WINDOW_TOKENS}, one window.")
    if engine == "native":
        raise UsageError('engine is "native", expected jax, torch or tensorflow, whose matrix products can be watched.')
    chosen = choose_keras_engine() if engine == "auto" else choose_engine(engine)
    content = _read_text(Path(text))
    with open_checkpoint(resolve_whole(model)) as checkpoint:
        tokenizer = tokenizer_of(checkpoint)
        windows = list(_windows(tokenizer.encode(content), num_tokens, Path(text)))
        language_model: Any = load_model(checkpoint, chosen, "float32", threads)
    try:
        sums = _collect(language_model.keras_model, windows, progress or (lambda title, done, total: None))
    finally:
        config = language_model.config
        language_model.close()
    seen = len(windows) * WINDOW_TOKENS
    write_importance(Path(target), Importance(sums, seen, WINDOW_TOKENS, Path(text).name), config)
    return {"target": os.fspath(target), "engine": chosen, "tokens": seen, "tensors": len(sums)}


def _read_text(path: Path) -> str:
    try:
        return read_bytes(path, MAX_TEXT_BYTES, DataError).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: is not UTF-8 text (byte {problem.start}). Convert it first.") from None


def _windows(token_ids: list[int], num_tokens: int, path: Path) -> Iterator[list[int]]:
    """Whole windows of the text, each begun by the first token, which is BOS."""
    step = WINDOW_TOKENS - 1
    rest = token_ids[1:]
    if len(rest) < step:
        raise DataError(
            f"{path}: has {len(token_ids)} tokens, expected at least {WINDOW_TOKENS}. Give a longer text; "
            f"{DEFAULT_TOKENS} are used by default."
        )
    for start in range(0, min(len(rest) // step, num_tokens // WINDOW_TOKENS) * step, step):
        yield [token_ids[0], *rest[start : start + step]]


def _collect(
    decoder: Any, windows: list[list[int]], progress: Callable[[str, int, int], None]
) -> dict[str, np.ndarray]:
    """Sums of squares by tensor name after every window, and of the head's input."""
    import keras
    from keras import ops

    from gemcut.model.backend_ops import leaf_ops
    from gemcut.model.runner_xla import empty_layers
    from gemcut.model.steps import DecoderSteps

    tree = keras.tree.map_structure(ops.stop_gradient, decoder.tree())
    matrices = _matrices_by_identity(tree)
    sums: dict[str, np.ndarray] = {}

    def add(name: str, x: Any) -> None:
        squares = ops.sum(ops.square(ops.reshape(x, (-1, x.shape[-1]))), axis=0)
        sums[name] = sums.get(name, 0.0) + ops.convert_to_numpy(squares).astype(np.float64)

    leaf = type(leaf_ops())()  # not the shared one, which others compute with
    plain = leaf.linear

    def linear(x: Any, weight: Any) -> Any:
        add(matrices[id(weight)], x)
        return plain(x, weight)

    leaf.linear = linear  # type: ignore[method-assign]
    steps = DecoderSteps(decoder.config, leaf, decoder.compute_dtype)
    whole, zero = ops.full((1,), WINDOW_TOKENS, dtype="int32"), ops.zeros((1,), dtype="int32")
    previous = ops.zeros((1, decoder.config.hidden_size), dtype=decoder.compute_dtype)
    for done, window in enumerate(windows):
        progress("calibrating", done * WINDOW_TOKENS, len(windows) * WINDOW_TOKENS)
        token_ids = ops.convert_to_tensor(np.array([window], np.int32))
        layers = empty_layers(decoder, 1, WINDOW_TOKENS)
        _, hidden, _ = steps.prefill(tree, layers, token_ids, zero, whole, previous, fresh=True)
        add("head", hidden)
    return _by_tensor(sums, decoder.config)


def _matrices_by_identity(tree: dict[str, Any]) -> dict[int, str]:
    """Name of each fused matrix of the tree by the identity of its tensor."""
    return {
        id(tensor): f"model.layers.{index}.{name}"
        for index, weights in enumerate(tree["layers"])
        for name, tensor in weights.items()
    }


def _by_tensor(sums: dict[str, np.ndarray], config: DecoderConfig) -> dict[str, np.ndarray]:
    """Sums of each tensor: those stacked in one matrix have the same input; the head's go to the head's tensor."""
    head = EMBEDDING if config.tie_word_embeddings else OUTPUT_HEAD
    result = {head: sums["head"].astype(np.float32)}
    for index in range(config.num_hidden_layers):
        for fused, (_, parts) in fused_layer_shapes(config).items():
            for part in parts:
                if (total := sums.get(f"model.layers.{index}.{fused}")) is not None:
                    result[f"model.layers.{index}.{part}"] = total.astype(np.float32)
    return result
