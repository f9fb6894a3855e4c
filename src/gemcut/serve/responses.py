"""The parts of answers that both endpoints share: identifiers, usage, log-probabilities."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gemcut.generate.sequence import Sequence as TextSequence
from gemcut.text import IncrementalDetokenizer, Tokenizer


def new_id(prefix: str) -> str:
    """An identifier that no other answer has, such as "chatcmpl-..."."""
    return f"{prefix}-{secrets.token_hex(16)}"


def usage_of(sequences: Sequence[TextSequence], samples_per_prompt: int = 1) -> dict[str, Any]:
    """Tokens of prompts and answers; a prompt with several samples counts once."""
    prompts = sequences[::samples_per_prompt]
    prompt_tokens = sum(len(sequence.prompt_ids) for sequence in prompts)
    completion_tokens = sum(sequence.num_generated for sequence in sequences)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": sum(sequence.num_reused for sequence in prompts)},
    }


def chat_logprobs(entries: Iterable[Mapping[str, Any]], tokenizer: Tokenizer) -> dict[str, Any]:
    """Log-probabilities as chat answers have them: for each token its text, bytes and alternatives."""
    return {
        "content": [
            {**_chat_entry(entry, tokenizer), "top_logprobs": [_chat_entry(top, tokenizer) for top in entry["top"]]}
            for entry in entries
        ],
        "refusal": None,
    }


class CompletionLogprobs:
    """Log-probabilities as completions have them: parallel lists, with each token's place in the text.

    Args:
        tokenizer: Of the model.
        has_alternatives: Whether alternatives were asked for.
        has_prompt: Whether the text begins with the prompt.
    """

    def __init__(self, tokenizer: Tokenizer, has_alternatives: bool, has_prompt: bool) -> None:
        self._tokenizer, self._has_alternatives = tokenizer, has_alternatives
        self._detokenizer = IncrementalDetokenizer(tokenizer, continues_prompt=not has_prompt)
        self._offset = 0

    def take(self, entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """The next tokens; an entry whose logprob is None has no token before it."""
        tokens: list[str] = []
        tops: list[dict[str, float] | None] = []
        values, offsets = [], []
        for entry in entries:
            token_id = entry["token_id"]
            tokens.append(token_text(self._tokenizer, token_id))
            values.append(entry["logprob"])
            offsets.append(self._offset)
            if token_id < self._tokenizer.vocab_size:
                self._offset += len(self._detokenizer.push(token_id))
            if entry["logprob"] is None or not self._has_alternatives:
                tops.append(None)
            else:
                best = {token_text(self._tokenizer, top["token_id"]): top["logprob"] for top in entry["top"]}
                tops.append({tokens[-1]: entry["logprob"], **best})
        top_logprobs = tops if self._has_alternatives else None
        return {"text_offset": offsets, "token_logprobs": values, "tokens": tokens, "top_logprobs": top_logprobs}


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    """A token's text; one that is no whole character is "bytes:" and its bytes, so that none looks like another."""
    data = token_bytes(tokenizer, token_id)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def token_bytes(tokenizer: Tokenizer, token_id: int) -> bytes:
    """UTF-8 of a token; nothing for an id that only pads the embedding."""
    return tokenizer.token_bytes(token_id) if token_id < tokenizer.vocab_size else b""


def _chat_entry(entry: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    data = token_bytes(tokenizer, entry["token_id"])
    return {"token": entry["token"], "logprob": entry["logprob"], "bytes": list(data)}
