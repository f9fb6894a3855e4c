"""Gemcut's engine, answering worker_protocol: the native one unless told otherwise.

    python worker_engine.py MODEL [--engine native] [--dtype auto] [--threads N] [--context N] [--start | --memory]

--start measures gemcut.load in this fresh process, after the import; --memory what a loaded model leaves in use, the
interpreter's modules not counted; both then end.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from worker_protocol import DRIFT_TOKENS, NOTHING, resident_bytes, serve, settled_memory, token_ids_of

import gemcut

if TYPE_CHECKING:  # --start counts what gemcut.load imports
    from gemcut.interfaces import LanguageModel

START_TOKENS = 16
HEAVY_MODULES = ("keras", "torch", "tensorflow", "jax", "transformers", "tokenizers", "huggingface_hub")


def main() -> None:
    """Load the model and answer, or measure one start."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--engine", default="native")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--start", action="store_true")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    if options.start:
        print(json.dumps({"ready": measured_start(options)}), flush=True)
    elif options.memory:
        print(json.dumps({"ready": measured_memory(options)}), flush=True)
    else:
        program = Engine(loaded_without_text(options), options.context)
        serve(program, {"gemcut": importlib.metadata.version("gemcut"), "settings": vars(options)})


def loaded_without_text(options: argparse.Namespace) -> LanguageModel:
    """The weights alone: the peers' folders have no tokenizer."""
    from gemcut.checkpoint import open_checkpoint
    from gemcut.checkpoint.load import load_model
    from gemcut.hub import resolve

    with open_checkpoint(resolve(options.model)) as checkpoint:
        return load_model(checkpoint, options.engine, options.dtype, options.threads)


def measured_start(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of gemcut.load, and until a first token; heavy modules that were imported."""
    begin = time.perf_counter()
    loaded = gemcut.load(options.model, engine=options.engine, dtype=options.dtype, threads=options.threads)
    load_seconds = time.perf_counter() - begin
    Engine(loaded.engine_model, options.context).first_token()
    seconds = time.perf_counter() - begin
    heavy = [name for name in HEAVY_MODULES if name in sys.modules]
    return {"load_seconds": load_seconds, "seconds": seconds, "heavy_modules": heavy}


def measured_memory(options: argparse.Namespace) -> dict[str, int]:
    """See worker_protocol.settled_memory; with the tokenizer, as the peers have it."""
    import gemcut.generate

    before_bytes = resident_bytes()
    loaded = gemcut.generate.load(options.model, engine=options.engine, dtype=options.dtype, threads=options.threads)
    return settled_memory(Engine(loaded.engine_model, options.context), before_bytes)


class Engine:
    """A gemcut.interfaces.LanguageModel as a worker_protocol.Program.

    Args:
        model: The engine with its weights.
        context: Tokens of keys and values that are kept, over all sequences.
    """

    def __init__(self, model: LanguageModel, context: int) -> None:
        self._model = model
        self._context = context
        self._cache: Any = None
        self._decoded = NOTHING
        # Each token is computed, one after the other: no prompt is remembered or shared by rows, and nothing guessed.
        for name, value in (("prefix_cache_bytes", 0), ("prompt_lookup", False)):
            if hasattr(model, name):
                setattr(model, name, value)
        self._renew(1)

    def first_token(self) -> None:
        """A prompt of 16 tokens and one decode step."""
        self.prefill(START_TOKENS)
        self._steps(self._cache, 1, 1)

    def prefill(self, num_tokens: int) -> float:
        """See worker_protocol.Program."""
        self._renew(1)
        begin = time.perf_counter()
        self._model.prefill(self._cache, [token_ids_of(num_tokens)])
        return time.perf_counter() - begin

    def decode(self, depth: int, num_tokens: int) -> float:
        """See worker_protocol.Program."""
        begun, held = self._decoded
        if begun != depth or held >= depth + DRIFT_TOKENS:
            self._renew(1)
            held = max(depth, 1)
            self._model.prefill(self._cache, [token_ids_of(held)])
            self._steps(self._cache, 1, 1)  # chosen from logits that are there: no pass through the weights
        seconds = self._steps(self._cache, 1, num_tokens)
        self._decoded = depth, held + num_tokens
        return seconds

    def batch(self, num_sequences: int, depth: int, num_tokens: int) -> float:
        """See worker_protocol.Program."""
        self._renew(num_sequences)
        self._model.prefill(self._cache, [token_ids_of(depth)] * num_sequences)
        self._steps(self._cache, num_sequences, 1)
        return self._steps(self._cache, num_sequences, num_tokens)

    def logits(self, token_ids: list[int]) -> np.ndarray:
        """See worker_protocol.Program."""
        return self._model.logits(token_ids)

    def facts(self) -> dict[str, Any]:
        """See worker_protocol.Program."""
        model: Any = self._model
        facts = {"engine": model.engine, "dtype": model.dtype, "threads": model.num_threads}
        if model.engine == "native":
            from gemcut.engine import native

            for name in ("isa", "weights_bytes", "weight_bytes_per_token", "multiply_adds_per_token"):
                facts[name] = getattr(model, name)
            facts["read_bytes_per_second"] = native().measured_read_bandwidth(model.num_threads)
        return facts

    def _renew(self, num_sequences: int) -> None:
        self._decoded = NOTHING
        self._cache = None  # the old one's memory goes first
        self._cache = self._model.new_cache(num_sequences, self._context // num_sequences)

    def _steps(self, cache: Any, num_sequences: int, num_tokens: int) -> float:
        from gemcut.interfaces import SamplingOptions

        options, uniforms = [SamplingOptions()] * num_sequences, np.zeros((num_sequences, num_tokens), np.float32)
        begin = time.perf_counter()
        self._model.decode(cache, num_tokens, options, uniforms)
        return time.perf_counter() - begin


if __name__ == "__main__":
    main()
