"""Log-probabilities in float64, to tell which of two programs in float32 is nearer to the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path


class Referee:
    """transformers' model in float64; it is loaded when the first question comes.

    Args:
        folder: Gives a Hugging Face folder.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._model = None

    def logprob(self, token_ids: Sequence[int], num_scored: int) -> float:
        """Summed log-probability, in nats, of the last `num_scored` tokens."""
        import torch

        if self._model is None:
            from transformers import AutoModelForCausalLM

            self._model = AutoModelForCausalLM.from_pretrained(self._folder(), dtype=torch.float64).eval()
        with torch.no_grad():
            ids = torch.tensor([list(token_ids)])
            logits = self._model(ids, logits_to_keep=num_scored + 1).logits[0, :-1]
            chosen = ids[0, -num_scored:]
            return float(torch.log_softmax(logits, dim=-1)[torch.arange(num_scored), chosen].sum())
