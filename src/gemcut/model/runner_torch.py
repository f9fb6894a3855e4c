"""Running the decoder on PyTorch: prefill eager, decode through two compiled halves of a block.

The halves see one row and no cache, so two graphs (and one for the output head) serve every layer,
every position and every capacity; attention over the live part of the cache stays eager between them.
"""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from typing import Any

import numpy as np
import torch

from gemcut.errors import BackendError
from gemcut.model.backend_ops import leaf_ops
from gemcut.model.block import begin_block, finish_block
from gemcut.model.decoder import Decoder
from gemcut.model.runner_xla import empty_layers
from gemcut.model.sampling import SamplingVariant
from gemcut.model.sampling_host import choose_tokens, top_logprobs
from gemcut.model.steps import DecoderSteps, Layers

Tensor = Any
logger = logging.getLogger("gemcut")
# Keras computes result types through functools.lru_cache; dynamo traces through it and says so, at length.
warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`", UserWarning)
COMPILED_SHAPES = 64  # dynamo's own limit of 8 shapes per function is fewer than batch sizes times row counts


def can_compile() -> bool:
    """Whether torch.compile has the C++ compiler it needs (on CPU)."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None or shutil.which("clang++") is not None


class Runner:
    """The steps of one decoder on PyTorch; same calls as the JAX runner.

    Args:
        decoder: The model.
        compiled: Compile decoding; None does where a C++ compiler or a GPU is there, and says so where not.
    """

    max_burst = 1

    def __init__(self, decoder: Decoder, compiled: bool | None = None) -> None:
        self.decoder = decoder
        self.device = decoder.embedding.value.device.type
        self.num_threads = torch.get_num_threads()
        if compiled is None:
            compiled = self.device != "cpu" or can_compile()
            if not compiled:
                logger.warning(
                    "torch: no C++ compiler found, so decoding runs uncompiled and slower; install g++ to change that."
                )
        elif compiled and self.device == "cpu" and not can_compile():
            raise BackendError("torch: compiled decoding needs a C++ compiler; install g++, or pass compiled=False.")
        leaf = leaf_ops()
        self._eager = DecoderSteps(decoder.config, leaf, decoder.compute_dtype)
        self._steps, self._head = self._eager, self._eager.logits
        if compiled:
            torch._dynamo.config.recompile_limit = COMPILED_SHAPES
            begin, finish, self._head = (
                torch.compile(function, fullgraph=True, dynamic=False)
                for function in (begin_block, finish_block, self._eager.logits)
            )
            self._steps = DecoderSteps(decoder.config, leaf, decoder.compute_dtype, begin, finish)
        self._tree = decoder.tree()

    def new_layers(self, batch: int, capacity: int) -> Layers:
        """An empty cache."""
        return empty_layers(self.decoder, batch, capacity)

    def no_hidden(self, batch: int) -> Tensor:
        """(B, D) zeros: the last hidden states before any prefill."""
        config = self.decoder.config
        return torch.zeros((batch, config.hidden_size), dtype=self._tree["head"].dtype, device=self.device)

    @torch.no_grad()
    def prefill(
        self, layers: Layers, token_ids: np.ndarray, starts: np.ndarray, counts: np.ndarray, previous: Tensor
    ) -> tuple[Layers, Tensor, Tensor]:
        """See `DecoderSteps.prefill`."""
        tokens, begins, lengths = (torch.from_numpy(array).to(self.device) for array in (token_ids, starts, counts))
        return self._eager.prefill(self._tree, layers, tokens, begins, lengths, previous, fresh=not starts.any())

    @torch.no_grad()
    def first(
        self, hidden: Tensor, arrays: dict[str, np.ndarray], uniforms: np.ndarray, variant: SamplingVariant
    ) -> list[np.ndarray]:
        """Token ids (B,) chosen from the last hidden states (B, D), then log-probabilities if asked for."""
        logits = self._head({"head": self._tree["head"]}, hidden)
        if not (variant.draws or variant.penalties or variant.masked or variant.num_top_logprobs is not None):
            return [logits.argmax(-1).int().cpu().numpy()]
        on_host = logits.cpu().numpy()
        chosen = choose_tokens(on_host, arrays, uniforms, variant)
        if variant.num_top_logprobs is None:
            return [chosen]
        return [chosen, *top_logprobs(on_host, chosen, variant.num_top_logprobs)]

    @torch.no_grad()
    def burst(
        self,
        layers: Layers,
        token_ids: np.ndarray,
        lengths: np.ndarray,
        uniforms: np.ndarray,
        stop_ids: tuple[int, ...],
        arrays: dict[str, np.ndarray],
        variant: SamplingVariant,
    ) -> tuple[Layers, list[np.ndarray]]:
        """One token for each sequence: appends `token_ids` (B,), chooses what follows."""
        tokens, stored = (torch.from_numpy(array).to(self.device) for array in (token_ids, lengths))
        layers, hidden = self._steps.step(self._tree, layers, tokens, stored, live=int(lengths.max()) + 1)
        outputs = self.first(hidden, arrays, uniforms[:, 0], variant)
        return layers, [output[:, None] for output in outputs]

    @torch.no_grad()
    def score_rows(self, hidden: Tensor, rows: np.ndarray, targets: np.ndarray) -> list[np.ndarray]:
        """See `DecoderSteps.score`; `hidden` is (B, T, D), `rows` count over B * T."""
        picked = hidden.reshape(-1, hidden.shape[-1])[torch.from_numpy(rows).long()]
        wanted = torch.from_numpy(targets).to(self.device).long()
        return [output.cpu().numpy() for output in self._eager.score(self._tree, picked, wanted)]

    @torch.no_grad()
    def logit_rows(self, hidden: Tensor, rows: np.ndarray) -> np.ndarray:
        """float32 (R, V) logits after rows (R,) of hidden states (B, T, D)."""
        picked = hidden.reshape(-1, hidden.shape[-1])[torch.from_numpy(rows).long()]
        return self._eager.logits(self._tree, picked).cpu().numpy()

    def free_bytes(self) -> int | None:
        """Memory that the device has left; None where it does not tell."""
        return int(torch.cuda.mem_get_info()[0]) if self.device == "cuda" else None

    def wait(self, tensor: Tensor) -> None:
        """Return once `tensor` is computed."""
        if self.device == "cuda":
            torch.cuda.synchronize(tensor.device)

    def to_numpy(self, tensor: Tensor) -> np.ndarray:
        """float32 copy on the host."""
        return tensor.detach().float().cpu().numpy()

    def num_compiled(self) -> int:
        """Graphs compiled so far in this process."""
        return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
