"""llama.cpp as a peer, through its C API: runs in its own environment (.venv-llamacpp) and answers worker_protocol.

    python peer_llamacpp.py FILE.gguf [--threads N] [--context N] [--no-repack] [--no-flash] [--float32-cache]
        [--start|--memory]

Micro-batches of 512 tokens, keys and values in float16, weights mapped: llama.cpp's own defaults. --start measures
model + context + prefill of 16 tokens + 1 token in this fresh process, --memory what that leaves in use; both then end.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import llama_cpp
import numpy as np
from worker_protocol import DRIFT_TOKENS, NOTHING, resident_bytes, serve, settled_memory, token_ids_of

MICRO_BATCH = 512
START_TOKENS = 16
ALWAYS_SILENT = llama_cpp.llama_log_callback(lambda level, text, data: None)


def main() -> None:
    """Load the file and answer, or measure one start."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=4096)
    for flag in ("--no-repack", "--no-flash", "--unified", "--float32-cache", "--start", "--memory"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    llama_cpp.llama_log_set(ALWAYS_SILENT, None)
    llama_cpp.llama_backend_init()
    before_bytes, begin = resident_bytes(), time.perf_counter()
    program = LlamaCpp(options)
    if options.start:
        program.first_token()
        print(json.dumps({"ready": {"seconds": time.perf_counter() - begin}}), flush=True)
    elif options.memory:
        print(json.dumps({"ready": settled_memory(program, before_bytes)}), flush=True)
    else:
        serve(program, {"llama-cpp-python": llama_cpp.__version__, "settings": vars(options)})


class LlamaCpp:
    """One model and, one at a time, a context; a worker_protocol.Program.

    Args:
        options: As main() parses them.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = not options.no_repack  # the CPU_REPACK buffer type
        self._model = llama_cpp.llama_model_load_from_file(options.file.encode(), params)
        if not self._model:
            raise SystemExit(f"{options.file}: llama.cpp does not load it")
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._context: Any = None
        self._batch: Any = None
        self._num_sequences = 0
        self._decoded = NOTHING
        self._use_context(1)

    def first_token(self) -> None:
        """A prompt of 16 tokens and one decode step."""
        self.prefill(START_TOKENS)
        self._step([(0, START_TOKENS, 1000)])

    def prefill(self, num_tokens: int) -> float:
        """See worker_protocol.Program."""
        self._use_context(1)
        return self._append(0, 0, token_ids_of(num_tokens))

    def decode(self, depth: int, num_tokens: int) -> float:
        """See worker_protocol.Program."""
        begun, held = self._decoded
        if begun != depth or held >= depth + DRIFT_TOKENS:
            self._use_context(1)
            held = max(depth, 1)
            self._append(0, 0, token_ids_of(held))
        seconds = self._steps(1, held, num_tokens)
        self._decoded = depth, held + num_tokens
        return seconds

    def batch(self, num_sequences: int, depth: int, num_tokens: int) -> float:
        """See worker_protocol.Program."""
        self._use_context(num_sequences)
        for sequence in range(num_sequences):
            self._append(sequence, 0, token_ids_of(depth))
        return self._steps(num_sequences, depth, num_tokens)

    def logits(self, token_ids: list[int]) -> np.ndarray:
        """See worker_protocol.Program."""
        self._use_context(1)
        self._append(0, 0, token_ids, all_logits=True)
        pointer = llama_cpp.llama_get_logits(self._context)
        return np.ctypeslib.as_array(pointer, shape=(len(token_ids), self._vocab_size)).copy()

    def facts(self) -> dict[str, Any]:
        """See worker_protocol.Program."""
        return {"vocab_size": self._vocab_size, "system": llama_cpp.llama_print_system_info().decode()}

    def _use_context(self, num_sequences: int) -> None:
        """An empty context for so many sequences."""
        self._decoded = NOTHING
        if num_sequences != self._num_sequences:
            if self._num_sequences:
                llama_cpp.llama_batch_free(self._batch)
                llama_cpp.llama_free(self._context)
            self._context = llama_cpp.llama_init_from_model(self._model, self._context_params(num_sequences))
            if not self._context:
                raise SystemExit(f"{self._options.file}: llama.cpp makes no context")
            self._batch = llama_cpp.llama_batch_init(self._options.context, 0, 1)
            self._num_sequences = num_sequences
        else:
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)

    def _context_params(self, num_sequences: int) -> Any:
        options = self._options
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = options.context
        params.n_batch = options.context
        params.n_ubatch = MICRO_BATCH
        params.n_seq_max = num_sequences
        params.n_threads = params.n_threads_batch = options.threads
        params.flash_attn_type = 0 if options.no_flash else 1
        params.kv_unified = options.unified
        if options.float32_cache:
            params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
        return params

    def _append(self, sequence: int, position: int, token_ids: list[int], all_logits: bool = False) -> float:
        for index, token_id in enumerate(token_ids):
            wanted = all_logits or index == len(token_ids) - 1
            self._set(index, sequence, position + index, token_id, wanted)
        return self._run(len(token_ids))

    def _steps(self, num_sequences: int, depth: int, num_tokens: int) -> float:
        token_ids = token_ids_of(num_tokens + 1)[1:]
        begin = time.perf_counter()
        for index, token_id in enumerate(token_ids):
            self._step([(sequence, depth + index, token_id) for sequence in range(num_sequences)])
        return time.perf_counter() - begin

    def _step(self, rows: list[tuple[int, int, int]]) -> None:
        for index, (sequence, position, token_id) in enumerate(rows):
            self._set(index, sequence, position, token_id, True)
        self._run(len(rows))

    def _set(self, index: int, sequence: int, position: int, token_id: int, wanted: bool) -> None:
        batch = self._batch
        batch.token[index], batch.pos[index], batch.logits[index] = token_id, position, wanted
        batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence

    def _run(self, num_tokens: int) -> float:
        self._batch.n_tokens = num_tokens
        begin = time.perf_counter()
        code = llama_cpp.llama_decode(self._context, self._batch)
        if code != 0:
            raise SystemExit(f"llama_decode answered {code}")
        llama_cpp.llama_synchronize(self._context)
        return time.perf_counter() - begin


if __name__ == "__main__":
    main()
