"""Engines that follow a script, and the tiny tokenizer: generation without a model."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemcut.config import FULL_ATTENTION, DecoderConfig, RopeParameters
from gemcut.errors import BackendError
from gemcut.generate import TextModel
from gemcut.interfaces import Chosen, ContinuationScore, DecodedTokens
from gemcut.text import Tokenizer, chat_template_for

EOS = 1
Script = Callable[[list[int], int], int]


@dataclasses.dataclass
class ScriptedCache:
    """The tokens of each row, how many of them were its prompt, and how many of those were known already."""

    capacity: int
    rows: list[list[int]]
    prompts: list[list[int]]
    reused: list[int] | None = None

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(row) for row in self.rows], np.int32)

    @property
    def num_reused(self) -> list[int]:
        return self.reused or [0] * len(self.rows)


class ScriptedEngine:
    """A language model whose next token is script(prompt ids, tokens answered so far).

    Attributes:
        calls: ("new_cache", batch size, max tokens), ("prefill", lengths) and ("decode", steps, options, ...).
        uniforms: The draws that each decode call was given.
        compiled: What `num_compiled` answers next, else 0.
        reused: Tokens of each row's prompt that a prefill need not compute; None for none.
    """

    engine, dtype, device, num_threads = "scripted", "float32", "cpu", 1

    def __init__(self, script: Script, context: int = 60) -> None:
        rope = ((FULL_ATTENTION, RopeParameters()),)
        self.config = DecoderConfig(704, 8, 8, 1, 1, 1, 8, context, (FULL_ATTENTION,), None, rope, 8)
        self.script, self.calls, self.uniforms = script, [], []
        self.is_closed = False
        self.compiled: list[int] = []
        self.reused: list[int] | None = None

    def num_compiled(self) -> int:
        return self.compiled.pop(0) if self.compiled else 0

    def new_cache(self, batch_size: int, max_tokens: int) -> ScriptedCache:
        if self.is_closed:
            raise BackendError("model: it was closed, so its weights are gone. Load it again.")
        assert max_tokens <= self.config.max_position_embeddings
        self.calls.append(("new_cache", batch_size, max_tokens))
        return ScriptedCache(max_tokens, [[] for _ in range(batch_size)], [], self.reused)

    def prefill(self, cache: ScriptedCache, token_ids: Any) -> None:
        self.calls.append(("prefill", [len(row) for row in token_ids]))
        cache.rows = [list(row) for row in token_ids]
        cache.prompts = [list(row) for row in token_ids]

    def decode(self, cache, num_steps, options, uniforms, *, num_top_logprobs=None, mask=None, stop_token_ids=()):
        assert uniforms.shape == (len(cache.rows), num_steps) == (len(options), num_steps)
        assert mask is None or (mask.shape == (len(cache.rows), 704) and num_steps == 1 and mask.any(axis=1).all())
        self.calls.append(("decode", num_steps, tuple(stop_token_ids)))
        self.uniforms.append(uniforms)
        columns, stopped = [], [False] * len(cache.rows)
        while len(columns) < num_steps and not all(stopped):
            column = []
            for index, (row, prompt) in enumerate(zip(cache.rows, cache.prompts, strict=True)):
                wanted = self.script(prompt, len(row) - len(prompt))
                column.append(wanted if mask is None or mask[index, wanted] else int(mask[index].argmax()))
                row.append(column[-1])
                stopped[index] |= column[-1] in stop_token_ids
            columns.append(column)
        assert max(map(len, cache.rows)) <= cache.capacity
        token_ids = np.array(columns, np.int32).T
        if num_top_logprobs is None:
            return DecodedTokens(token_ids)
        logprobs = -token_ids.astype(np.float32) / 1000
        if not num_top_logprobs:
            return DecodedTokens(token_ids, logprobs)
        best = np.stack([token_ids + rank for rank in range(num_top_logprobs)], axis=-1).astype(np.int32)
        return DecodedTokens(token_ids, logprobs, best, -best.astype(np.float32) / 1000)

    def logits(self, token_ids):
        return np.zeros((len(token_ids), 704), np.float32)

    def score(self, token_ids):
        return [np.array([-0.5 * token_id for token_id in row[1:]], np.float32) for row in token_ids]

    def score_continuations(self, token_ids, num_scored):
        rows = zip(self.score(token_ids), num_scored, strict=True)
        return [ContinuationScore(row[len(row) - count :], False) for row, count in rows]

    def hidden_states(self, token_ids):
        raise NotImplementedError

    def close(self) -> None:
        self.is_closed = True


class ScriptedText:
    """A text of a `ContinuousScriptedEngine`."""

    def __init__(self, token_ids: list[int], max_tokens: int, reused: int, stop_token_ids: Any) -> None:
        self.prompt, self.token_ids, self.max_tokens = list(token_ids), list(token_ids), max_tokens
        self.num_reused = self.num_stored = reused
        self.stop_token_ids = stop_token_ids

    @property
    def num_waiting(self) -> int:
        return len(self.token_ids) - self.num_stored

    def append(self, token_ids: list[int]) -> None:
        self.token_ids += token_ids


class ContinuousScriptedEngine(ScriptedEngine):
    """The same script on an engine whose texts join and leave at any pass. A mask's lowest id is chosen in need.

    Attributes:
        passes: For each pass {last token of the prompt: tokens computed} in order, and the steps.
        texts: Those begun, in order.
        failures: What the next passes and beginnings raise, by "pass" or "begin"; each once.
    """

    prefix_cache_bytes = 0

    def __init__(self, script: Script, context: int = 60) -> None:
        super().__init__(script, context)
        self.passes: list[tuple[dict[int, int], int]] = []
        self.texts: list[ScriptedText] = []
        self.failures: dict[str, list[BaseException]] = {"pass": [], "begin": []}

    def sequence_bytes(self, max_tokens: int) -> int:
        return 10 * max_tokens

    def new_text(self, token_ids, max_tokens, options, *, num_top_logprobs=None, stop_token_ids=()):
        if self.is_closed:
            raise BackendError("model: it was closed, so its weights are gone. Load it again.")
        if self.failures["begin"]:
            raise self.failures["begin"].pop(0)
        shared = [known_beginning(token_ids, text.token_ids[: text.num_stored]) for text in self.texts]
        reused = max(shared, default=0) if self.prefix_cache_bytes else 0
        self.texts.append(ScriptedText(token_ids, max_tokens, reused, stop_token_ids))
        return self.texts[-1]

    def run_pass(self, shares, num_steps=1):
        if self.failures["pass"]:
            raise self.failures["pass"].pop(0)
        assert len({id(share.text) for share in shares}) == len(shares)
        assert num_steps == 1 or all(share.text.num_waiting == 1 and share.allowed is None for share in shares)
        counts: collections.Counter[int] = collections.Counter()
        for share in shares:
            counts[share.text.prompt[-1]] += share.max_tokens
        self.passes.append((dict(counts), num_steps))
        chosen: list[list[int]] = [[] for _ in shares]
        for _ in range(num_steps):
            for new, share in zip(chosen, shares, strict=True):
                text = share.text
                assert text.num_waiting >= 1 <= share.max_tokens
                text.num_stored += min(share.max_tokens, text.num_waiting)
                if not text.num_waiting:
                    token_id = self.script(text.prompt, len(text.token_ids) - len(text.prompt))
                    if share.allowed is not None and not share.allowed[token_id // 32] >> token_id % 32 & 1:
                        token_id = int(np.unpackbits(share.allowed.view(np.uint8), bitorder="little").argmax())
                    new.append(token_id)
                    text.token_ids.append(token_id)
                    assert len(text.token_ids) <= text.max_tokens
            if any(new and new[-1] in share.text.stop_token_ids for new, share in zip(chosen, shares, strict=True)):
                break
        return [Chosen(new) for new in chosen]


def known_beginning(token_ids: list[int], other: list[int]) -> int:
    """Tokens that two texts share, but for the last of the first."""
    pairs = zip(token_ids[:-1], other, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(token_ids) - 1, len(other)))


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """The tiny Gemma tokenizer of the text tests."""
    file = Path(__file__).resolve().parents[1] / "text" / "data" / "tiny-gemma.model"
    return Tokenizer.from_sentencepiece(file.read_bytes(), where=file.name)


@pytest.fixture(scope="session")
def saying(tokenizer: Tokenizer) -> Callable[..., Script]:
    """A script that answers with a text, or ids, and then ends."""

    def make(answer: str | list[int]) -> Script:
        token_ids = tokenizer.encode(answer, add_bos=False) if isinstance(answer, str) else answer
        return lambda prompt, index: token_ids[index] if index < len(token_ids) else EOS

    return make


@pytest.fixture(scope="session")
def scripted(tokenizer: Tokenizer) -> Callable[..., TextModel]:
    """A text model on a scripted engine; `lm.engine_model` is the engine."""

    def make(script: Script, *, context: int = 60, template: bool = True, **options: Any) -> TextModel:
        chosen = chat_template_for(tokenizer, "gemma3_text", where="test") if template else None
        return TextModel(ScriptedEngine(script, context), tokenizer, chosen, **options)

    return make


@pytest.fixture(scope="session")
def continuous(tokenizer: Tokenizer) -> Callable[..., TextModel]:
    """The same on an engine whose texts join and leave at any pass."""

    def make(script: Script, *, context: int = 2000) -> TextModel:
        return TextModel(ContinuousScriptedEngine(script, context), tokenizer, None)

    return make
