"""Small decoders with seeded weights of a realistic spread, on the engine of the process."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from gemcut.config import FULL_ATTENTION, SLIDING_ATTENTION, DecoderConfig, RopeParameters, config_to_hf
from gemcut.config.parameters import parameter_shapes

VOCAB_SIZE = 83
WINDOW = 8
BASE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
    "layer_types": (SLIDING_ATTENTION, FULL_ATTENTION),
    "sliding_window": WINDOW,
    "rope_parameters": (
        (SLIDING_ATTENTION, RopeParameters()),
        (FULL_ATTENTION, RopeParameters(rope_theta=1e6, factor=8.0)),
    ),
    "query_pre_attn_scalar": 8,
    "post_norms": True,
    "qk_norm": True,
    "final_logit_softcapping": 30.0,
    "tie_word_embeddings": False,  # a small tied model repeats its last token
}


@functools.cache
def spread_tensor(names: tuple[str, ...], shape: tuple[int, ...], norm_unit_offset: bool, seed: int = 3) -> np.ndarray:
    """A float32 tensor whose activations neither vanish nor explode; the same for the same names."""
    generator = np.random.default_rng([seed, *" ".join(names).encode()])
    noise = generator.standard_normal(shape).astype(np.float32)
    if len(shape) == 1:
        return np.float32(0.3) * noise + np.float32(0.0 if norm_unit_offset else 1.0)
    return np.float32(1.2) * noise / np.float32(np.sqrt(shape[1]))


@pytest.fixture(scope="session")
def to_numpy() -> Callable[[Any], np.ndarray]:
    """A tensor of the backend as a NumPy array; float32 when it is a narrower float."""

    def convert(tensor: Any) -> np.ndarray:
        from keras import ops

        if "float" in str(tensor.dtype):
            tensor = ops.cast(tensor, "float32")
        # Not keras.ops.convert_to_numpy: on PyTorch it makes NumPy warn.
        return tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)

    return convert


@pytest.fixture(scope="session")
def make_decoder(engine: str) -> Callable[..., Any]:
    """Builds a decoder of `BASE` with changes; `source` replaces the weights."""

    def make(dtype: str = "float32", source: Any = None, **changes: Any) -> Any:
        from keras import ops

        from gemcut.model.decoder import Decoder

        config = DecoderConfig(**(BASE | changes))

        def spread(names: tuple[str, ...], shape: tuple[int, ...], dtype: str) -> Any:
            return ops.convert_to_tensor(spread_tensor(names, shape, config.norm_unit_offset), dtype=dtype)

        return Decoder(config, source or spread, dtype)

    return make


@pytest.fixture(scope="session")
def make_native_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Builds a language model of such a decoder on the native engine, keys and values in float32."""

    def make(**changes: Any) -> Any:
        from gemcut.engine import NativeCheckpoint, NativeLanguageModel

        config = DecoderConfig(**(BASE | {"model_type": "gemma3_text"} | changes))
        folder = tmp_path_factory.mktemp("decoder")
        shapes = parameter_shapes(config)
        weights = {name: spread_tensor((name,), shape, config.norm_unit_offset) for name, shape in shapes.items()}
        safetensors.numpy.save_file(weights, folder / "model.safetensors", {"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config_to_hf(config)), encoding="utf-8")
        with NativeCheckpoint(folder) as checkpoint:
            return NativeLanguageModel(checkpoint, dtype="float32")

    return make


@pytest.fixture(scope="session")
def make_model(request: pytest.FixtureRequest, engine: str) -> Callable[..., Any]:
    """Builds a language model of such a decoder; on PyTorch it runs eager unless `compiled`."""
    if engine == "native":
        return request.getfixturevalue("make_native_model")
    make_decoder = request.getfixturevalue("make_decoder")

    def make(dtype: str = "float32", *, compiled: bool = False, source: Any = None, **changes: Any) -> Any:
        from gemcut.model.language_model import KerasLanguageModel

        decoder, runner = make_decoder(dtype, source, **changes), None
        if engine == "torch":
            from gemcut.model.runner_torch import Runner

            runner = Runner(decoder, compiled=compiled)
        return KerasLanguageModel(decoder, runner)

    return make


@pytest.fixture(scope="session")
def head_weights(engine: str, to_numpy: Callable[[Any], np.ndarray]) -> Callable[[Any], np.ndarray]:
    """The output head's matrix (V, D) of a model that `make_model` built without changes."""

    def read(model: Any) -> np.ndarray:
        if engine != "native":
            return to_numpy(model.keras_model.output_head.value)
        config = model.config
        return spread_tensor(("lm_head.weight",), (config.vocab_size, config.hidden_size), config.norm_unit_offset)

    return read
