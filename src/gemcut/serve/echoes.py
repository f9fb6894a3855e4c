"""Prompts that an answer repeats, with the log-probabilities of their tokens."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from gemcut.generate import TextModel
from gemcut.serve.errors import RequestError
from gemcut.serve.responses import token_text

# Alternatives for every token of a prompt take the logits of all of them at once.
_MAX_LOGITS_BYTES = 1 << 30
_ROWS = 32


@dataclasses.dataclass(frozen=True)
class Echo:
    """A prompt as an answer repeats it.

    Attributes:
        text: What it says.
        logprobs: Entries as of `gemcut.Completion`, the first token's without a number; None unless asked for.
    """

    text: str
    logprobs: list[dict[str, Any]] | None


def check_echo(lm: TextModel, num_tokens: int, num_top: int | None) -> None:
    """Refuse what takes too much memory.

    Raises:
        RequestError: the prompt is too long for alternatives at every token.
    """
    most = _MAX_LOGITS_BYTES // (4 * lm.config.vocab_size)
    if num_top and num_tokens > most:
        raise RequestError(
            f"logprobs is {num_top} with echo, and the prompt has {num_tokens} tokens, expected at most {most}. "
            "With logprobs 0, which leaves the alternatives out, it may be longer.",
            param="logprobs",
        )


def echo(lm: TextModel, prompt: str | None, token_ids: list[int], num_top: int | None) -> Echo:
    """A prompt repeated; the model computes it where log-probabilities are asked for.

    Args:
        lm: The model.
        prompt: As it was sent; None for ids.
        token_ids: Its ids.
        num_top: None for no log-probabilities; k for each token's own and k alternatives.
    """
    text = lm.tokenizer.decode(token_ids) if prompt is None else prompt
    if num_top is None:
        return Echo(text, None)
    entries = [_entry(lm, token_ids[0], None)]
    if len(token_ids) > 1 and not num_top:
        values = lm.engine_model.score([token_ids])[0].tolist()
        entries += [_entry(lm, token_id, value) for token_id, value in zip(token_ids[1:], values, strict=True)]
    elif len(token_ids) > 1:
        entries += _with_alternatives(lm, token_ids, num_top)
    return Echo(text, entries)


def _with_alternatives(lm: TextModel, token_ids: list[int], num_top: int) -> list[dict[str, Any]]:
    """Entries of all tokens but the first."""
    logits = lm.logits(token_ids)[:-1]
    entries = []
    for first in range(0, len(logits), _ROWS):
        rows = logits[first : first + _ROWS]
        peaks = rows.max(axis=-1, keepdims=True)
        norms = np.log(np.exp(rows - peaks).sum(axis=-1, dtype=np.float64)) + peaks[:, 0]
        best = np.argpartition(-rows, num_top - 1, axis=-1)[:, :num_top]
        for row, norm, top, token_id in zip(rows, norms, best, token_ids[first + 1 :], strict=False):
            top = top[np.argsort(-row[top], kind="stable")]
            entry = _entry(lm, token_id, float(row[token_id] - norm))
            entries.append(entry | {"top": [_entry(lm, int(each), float(row[each] - norm)) for each in top]})
    return entries


def _entry(lm: TextModel, token_id: int, logprob: float | None) -> dict[str, Any]:
    return {"token_id": token_id, "token": token_text(lm.tokenizer, token_id), "logprob": logprob, "top": []}
