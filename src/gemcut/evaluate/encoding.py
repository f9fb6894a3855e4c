"""From requests to token ids, as lm-evaluation-harness 0.4.13 makes them, with BOS checked in each."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from gemcut.errors import DataError, TemplateError, UsageError
from gemcut.evaluate.task import GenerateRequest, Request, RollingRequest, ScoreRequest
from gemcut.generate.text_model import TextModel
from gemcut.text import Tokenizer

Part = str | int
_CHECKED_CUTS = 64  # how often the short way is compared with the long one
_PROBES = ("a\nb", "a\n b", " a\n\n  b ", "1\n-1", "\n\n<b>")


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class EncodedScore:
    """A ScoreRequest.

    Attributes:
        context: int32 (T,), with BOS; choices that have the same context share the array.
        continuation: int32 (n,), what is scored; n is at least 1.
        num_cut: Tokens that were cut from the left to fit the model's context.
    """

    context: np.ndarray
    continuation: np.ndarray
    num_cut: int = 0

    @property
    def token_ids(self) -> np.ndarray:
        """The whole text."""
        return np.concatenate([self.context, self.continuation])


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class EncodedPrompt:
    """A GenerateRequest: int32 (T,) ids with BOS, and what it says; `num_cut` as of `EncodedScore`."""

    token_ids: np.ndarray
    stop: tuple[str, ...]
    max_tokens: int
    num_cut: int = 0


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class EncodedText:
    """A RollingRequest.

    Attributes:
        windows: int32 ids of each window, with BOS, and how many of its last ones are scored.
        num_tokens: Of the text, BOS not counted.
    """

    windows: tuple[tuple[np.ndarray, int], ...]
    num_tokens: int
    num_cut: int = 0

    @property
    def token_ids(self) -> np.ndarray:
        """The first window."""
        return self.windows[0][0]


Encoded = EncodedScore | EncodedPrompt | EncodedText


class Encoder:
    """Makes token ids of requests for one model.

    Args:
        model: Gives tokenizer, chat template and context.
        chat: Description, examples and question are one message of the user, through the model's chat template.
        system: The system message before it.
        is_rendered: Prompts have been through a chat template already: what looks like a control token is one.

    Attributes:
        context: Tokens of a text, at most.
        bos_check: "once" where every prompt has BOS at its front and nowhere else; else why none is there.

    Raises:
        TemplateError: `chat`, but the model has no chat template.
        UsageError: a system message without `chat`.
    """

    def __init__(
        self, model: TextModel, *, chat: bool = False, system: str | None = None, is_rendered: bool = False
    ) -> None:
        if system is not None and not chat:
            raise UsageError("--system: it is a message of a chat. Add --chat, or leave it out.")
        self._template = model.template if chat else None
        if chat and self._template is None:
            raise TemplateError(f"{model.name}: the model has no chat template. Leave --chat out.")
        self._is_rendered = is_rendered
        self._system = [] if system is None else [{"role": "system", "content": system}]
        self._tokenizer, self.context = model.tokenizer, model.context
        self._bos = self._tokenizer.bos_token_id
        self.bos_check = "once" if self._bos is not None else "none: the tokenizer has no BOS"
        self._known: _Known | None = None
        self._cuts = _Cuts(self._tokenizer)

    def encode(self, request: Request, where: str, before: str = "") -> Encoded:
        """A request as token ids.

        Args:
            request: What is asked.
            where: The item, for errors.
            before: What the request's text begins with that others begin with too; only time depends on it.

        Raises:
            DataError: nothing would be scored, the text cannot fit, or BOS is not there exactly once.
        """
        if isinstance(request, ScoreRequest):
            return self._score(request, where, before)
        if isinstance(request, GenerateRequest):
            return self._prompt(request, where, before)
        return self._text(request, where)

    def text_of(self, token_ids: Sequence[int]) -> str:
        """What ids say, control tokens included."""
        return self._tokenizer.decode(token_ids, skip_special=False)

    def _score(self, request: ScoreRequest, where: str, before: str) -> EncodedScore:
        known = self._context_of(request.context, before, where)
        if known.parts is None:
            continuation = self._tokenizer.encode(request.continuation, add_bos=False)
        else:
            whole = self._ids(_with_end(known.parts, known.moved + request.continuation), before)
            continuation = whole[len(known.token_ids) :]
        if not continuation:
            raise DataError(
                f"{where}: {request.continuation!r} has no tokens of its own after the question, expected one at "
                "least. Correct the task, or the data."
            )
        self._check_bos(known.token_ids, continuation, where)
        num_cut = max(len(known.token_ids) + len(continuation) - self.context, 0)
        context = self._cut(known.token_ids, num_cut, where) if num_cut else known.array
        return EncodedScore(context, np.array(continuation, np.int32), num_cut)

    def _context_of(self, context: str, before: str, where: str) -> _Known:
        """A context in ids; spaces at its end are left to the continuation."""
        if self._known is not None and self._known.text == context:
            return self._known
        if not context and self._template is None:
            self._known = _Known(context, None, "", [self._begin(where)])
            return self._known
        parts = self._parts(context)
        moved = parts[-1][len(parts[-1].rstrip()) :] if isinstance(parts[-1], str) else ""
        parts = _without_end(parts, moved)
        self._known = _Known(context, parts, moved, self._ids(parts, before))
        return self._known

    def _parts(self, text: str) -> list[Part]:
        """A prompt as plain texts and control tokens."""
        if self._template is None:
            return self._tokenizer.split_special(text) if self._is_rendered else [text]
        return self._template.parts([*self._system, {"role": "user", "content": text}])

    def _ids(self, parts: Sequence[Part], before: str) -> list[int]:
        if before and self._template is None and len(parts) == 1 and isinstance(parts[0], str):
            return self._cuts.encode(parts[0], before)
        return self._tokenizer.encode_parts(parts)

    def _prompt(self, request: GenerateRequest, where: str, before: str) -> EncodedPrompt:
        token_ids = self._ids(self._parts(request.prompt), before)
        room = self.context - request.max_tokens
        if room < 2:
            raise UsageError(
                f"{where}: up to {request.max_tokens} tokens are to be written, but prompt and answer together have "
                f"{self.context}. Raise --context, or take a model with a longer one."
            )
        self._check_bos(token_ids, [], where)
        num_cut = max(len(token_ids) - room, 0)
        return EncodedPrompt(self._cut(token_ids, num_cut, where), request.stop, request.max_tokens, num_cut)

    def _text(self, request: RollingRequest, where: str) -> EncodedText:
        """Windows as large as the context: BOS, the token before the scored ones, and these.

        The last window begins earlier, so that its tokens see as much as any.
        """
        begin, token_ids = self._begin(where), self._tokenizer.encode(request.text, add_bos=False)
        if not token_ids:
            raise DataError(f"{where}: the text is empty, expected at least one token.")
        if self.context < 3:
            raise UsageError(f"{where}: the context is {self.context} tokens, expected at least 3. Raise --context.")
        self._check_bos([begin], token_ids, where)
        size = self.context - 1
        windows, done = [], 0
        while done < len(token_ids):
            end = min(done + size - (done > 0), len(token_ids))
            row = [begin, *token_ids[max(end - size, 0) : end]]
            windows.append((np.array(row, np.int32), end - done))
            done = end
        return EncodedText(tuple(windows), len(token_ids))

    def _begin(self, where: str) -> int:
        """The token that a text without context follows."""
        begin = self._bos if self._bos is not None else self._tokenizer.eos_token_id
        if begin is None:
            raise DataError(f"{where}: the tokenizer has neither BOS nor EOS, which a text without context follows.")
        return begin

    def _check_bos(self, token_ids: list[int], more: list[int], where: str) -> None:
        if self._bos is None:
            return
        count = token_ids.count(self._bos) + more.count(self._bos)
        if count != 1 or token_ids[0] != self._bos:
            place = f"{count} times" if count != 1 else f"at place {token_ids.index(self._bos) + 1}"
            raise DataError(
                f"{where}: BOS (id {self._bos}) is there {place}, expected once, at the front. Scores of such prompts "
                "mean nothing; correct the chat template, or add_bos_token in tokenizer_config.json."
            )

    def _cut(self, token_ids: list[int], num_cut: int, where: str) -> np.ndarray:
        """Ids without `num_cut` of them on the left; BOS stays."""
        if not num_cut:
            return np.array(token_ids, np.int32)
        kept = token_ids[num_cut:] if self._bos is None else [token_ids[0], *token_ids[num_cut + 1 :]]
        if num_cut >= len(token_ids) or not kept:
            raise DataError(
                f"{where}: what is scored does not fit the context of {self.context} tokens with one before it. "
                "Raise --context, or take a model with a longer one."
            )
        return np.array(kept, np.int32)


class _Known:
    """The context met last: its text, its parts without the spaces at the end, these, and the ids of the parts."""

    def __init__(self, text: str, parts: Sequence[Part] | None, moved: str, token_ids: list[int]) -> None:
        self.text, self.parts, self.moved, self.token_ids = text, parts, moved, token_ids
        self.array = np.array(token_ids, np.int32)


def _without_end(parts: list[Part], end: str) -> list[Part]:
    """Parts without the text `end` of the last one."""
    if not end or not isinstance(parts[-1], str):
        return parts
    kept = parts[-1].removesuffix(end)
    return [*parts[:-1], kept] if kept else parts[:-1]


def _with_end(parts: Sequence[Part], end: str) -> list[Part]:
    """Parts with the text `end` after the last one."""
    if parts and isinstance(parts[-1], str):
        return [*parts[:-1], parts[-1] + end]
    return [*parts, end]


class _Cuts:
    """Encodes texts whose beginning is known already without encoding that anew.

    A text may be encoded in two parts where no token could span the border: the border comes after a line break, and no
    piece of the vocabulary has a line break before the character that follows. Tokenizers that put a space before
    texts, or change line breaks, are encoded as a whole; so is everything once both ways were seen to differ.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._before, self._ids, self._num_checked = "", list[int](), 0
        self._works: bool | None = None
        self._joined: set[str] = set()

    def encode(self, text: str, before: str) -> list[int]:
        """Ids of `text`, which may begin with `before`; the same as the tokenizer's."""
        if not self._can_cut(text, before):
            return self._tokenizer.encode(text)
        if before != self._before:
            self._before, self._ids = before, self._tokenizer.encode(before)
        token_ids = self._ids + self._tokenizer.encode(text[len(before) :], add_bos=False)
        if self._num_checked < _CHECKED_CUTS:
            self._num_checked += 1
            whole = self._tokenizer.encode(text)
            self._works = whole == token_ids
            return whole
        return token_ids

    def _can_cut(self, text: str, before: str) -> bool:
        if self._works is None:
            self._works = self._suits()
        is_border = before.endswith("\n") and len(text) > len(before) and text.startswith(before)
        return self._works and is_border and text[len(before)] not in self._joined

    def _suits(self) -> bool:
        """Whether parts are encoded as the whole is; notes what may follow a line break within a piece."""
        tokenizer = self._tokenizer
        for probe in _PROBES:
            end = probe.rindex("\n") + 1
            whole = tokenizer.encode(probe)
            parts = tokenizer.encode(probe[:end]) + tokenizer.encode(probe[end:], add_bos=False)
            if whole != parts or tokenizer.decode(whole) != probe:
                return False
        for token_id in range(tokenizer.vocab_size):
            piece = tokenizer.piece_of(token_id)
            if "\n" in piece[:-1]:
                self._joined.update(after for at, after in itertools.pairwise(piece) if at == "\n")
        if "\u2581" in self._joined:
            self._joined.add(" ")
        return True


__all__ = ["Encoded", "EncodedPrompt", "EncodedScore", "EncodedText", "Encoder"]
