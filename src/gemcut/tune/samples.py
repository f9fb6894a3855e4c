"""From examples to training samples: token ids, and which of them the model must learn to write."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gemcut.errors import DataError, TemplateError, UsageError
from gemcut.text import ChatTemplate, Tokenizer
from gemcut.tune.record_formats import Conversation, Example, Pair


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """One document of the training data.

    Attributes:
        token_ids: int32 (T,), with BOS at the front, once; lists become arrays.
        is_target: bool (T,), True where the token is one that the model must learn to write.
        source: Where it comes from, as "data.jsonl, line 12".
    """

    token_ids: np.ndarray
    is_target: np.ndarray
    source: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "token_ids", np.asarray(self.token_ids, np.int32))
        object.__setattr__(self, "is_target", np.asarray(self.is_target, np.bool_))
        assert self.token_ids.shape == self.is_target.shape, "a sample has one flag for each token"

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def num_targets(self) -> int:
        """Tokens that are learnt; the first token of a sample follows nothing and cannot be."""
        return int(np.count_nonzero(self.is_target[1:]))

    def digest(self) -> bytes:
        """SHA-256 of what is learnt: equal samples from two places have the same."""
        return hashlib.sha256(self.token_ids.astype("<i4").tobytes() + self.is_target.tobytes()).digest()

    def cut(self, length: int) -> Sample:
        """The sample's first `length` tokens."""
        return Sample(self.token_ids[:length], self.is_target[:length], self.source)


class SampleMaker:
    """Makes samples for one model.

    What is learnt is found by rendering: an answer's tokens are those by which the conversation up to its end is longer
    than the prompt before it. No mark in the template is asked for, so it works with every template.

    Args:
        tokenizer: The model's.
        template: The model's chat template, for conversations and prompts; None writes prompt, completion and EOS.
        system: The system message of conversations that have none.
        every_turn: Learn every turn of the assistant, not the last one only.

    Attributes:
        num_apart: Pairs whose prompt and completion would share a token if they were encoded as one text.

    Raises:
        UsageError: a system message without a chat template.
        DataError: without a template, and the tokenizer has no EOS.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        *,
        system: str | None = None,
        every_turn: bool = False,
    ) -> None:
        if system is not None and template is None:
            raise UsageError("system: it is a message of a chat. Use a chat template, or leave it out.")
        if tokenizer.eos_token_id is None:
            raise DataError("the tokenizer has no EOS, which ends a text that is learnt. Use a model that has one.")
        self._tokenizer, self._template, self._every_turn = tokenizer, template, every_turn
        self._bos, self._eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self._system = [] if system is None else [{"role": "system", "content": system}]
        self.num_apart = 0

    def make(self, example: Example) -> Sample:
        """The sample of an example; one with nothing to learn has no targets.

        Raises:
            DataError: there is no template for a conversation, the template refuses it, or does not write the beginning
                of a conversation as it writes it alone; BOS is not at the front once.
        """
        if isinstance(example, Conversation):
            sample = self._conversation(example)
        elif isinstance(example, Pair):
            sample = self._pair(example)
        else:
            sample = self._plain("", example.text, example.source)
        self._check_bos(sample)
        return sample

    def _pair(self, pair: Pair) -> Sample:
        if self._template is None:
            if pair.system is not None:
                raise DataError(
                    f"{pair.source}: has a system message, but there is no chat template to say it. Use --template "
                    "chat, or take that column out of the data."
                )
            return self._plain(pair.plain_prompt, pair.completion, pair.source)
        system = [] if pair.system is None else [{"role": "system", "content": pair.system}]
        turns = [{"role": "user", "content": pair.prompt}, {"role": "assistant", "content": pair.completion}]
        return self._conversation(Conversation((*system, *turns), None, pair.source))

    def _plain(self, prompt: str, completion: str, source: str) -> Sample:
        """BOS, prompt, completion, EOS; without a prompt the whole text is learnt."""
        given = self._tokenizer.encode(prompt)
        whole = self._tokenizer.encode(prompt + completion)
        if whole[: len(given)] != given:
            whole = self._apart(given, completion, whole, source)
        flags = np.arange(len(whole) + 1) >= max(len(given), 1)
        ids = np.array([*whole, self._eos], np.int32)
        return Sample(ids, flags if completion.strip() else np.zeros_like(flags), source)

    def _apart(self, given: list[int], completion: str, whole: list[int], source: str) -> list[int]:
        """Ids of a prompt that the completion goes on from within a token: as generation meets it, encoded apart."""
        token_ids = given + self._tokenizer.encode(completion, add_bos=False)
        if self._tokenizer.decode(token_ids) != self._tokenizer.decode(whole):
            raise DataError(
                f"{source}: prompt and completion meet within a word, and this tokenizer would put a space between "
                "them. Begin the completion with a space, and end the prompt without one."
            )
        self.num_apart += 1
        return token_ids

    def _conversation(self, example: Conversation) -> Sample:
        if self._template is None:
            raise DataError(
                f"{example.source}: is a conversation, but there is no chat template. Use a model that has one, or "
                "prompts with completions."
            )
        messages = list(example.messages)
        if self._system and messages[0]["role"] not in ("system", "developer"):
            messages = [*self._system, *messages]
        answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        whole = self._ids(messages, example, prompt=False)
        flags = np.zeros(len(whole), np.bool_)
        for index in answers if self._every_turn else answers[-1:]:
            if messages[index].get("weight") != 0 and not _is_empty(messages[index]):
                begin, end = self._turn(messages, index, whole, example)
                flags[begin:end] = True
        return Sample(np.array(whole, np.int32), flags, example.source)

    def _turn(
        self, messages: list[Mapping[str, Any]], index: int, whole: list[int], example: Conversation
    ) -> tuple[int, int]:
        """Where in a conversation's ids a turn begins, behind its header, and ends, behind its end marker."""
        prompt = self._ids(messages[:index], example, prompt=True)
        upto = whole if index == len(messages) - 1 else self._ids(messages[: index + 1], example, prompt=False)
        for part, words in ((prompt, f"before messages[{index}]"), (upto, f"up to messages[{index}]")):
            self._check_prefix(part, whole, words, example.source)
        special = self._tokenizer.special_token_ids - {self._tokenizer.unknown_token_id}
        if (
            len(prompt) < len(whole)
            and whole[len(prompt)] in special
            and prompt == self._ids(messages[:index], example, prompt=False)
        ):
            raise DataError(
                f"{example.source}: {self._where} opens no turn for an answer (add_generation_prompt changes nothing), "
                "so its header cannot be told from the answer. Give the model a template that does."
            )
        ends = [at for at in range(len(prompt), len(upto)) if whole[at] in special]
        return len(prompt), ends[-1] + 1 if ends else len(upto)

    def _check_prefix(self, part: list[int], whole: list[int], words: str, source: str) -> None:
        if whole[: len(part)] == part:
            return
        at = next((at for at, pair in enumerate(zip(part, whole, strict=False)) if pair[0] != pair[1]), len(whole))
        alone, inside = (repr(self._tokenizer.decode(ids[at : at + 3], skip_special=False)) for ids in (part, whole))
        raise DataError(
            f"{source}: {self._where} writes the conversation {words} otherwise than as the beginning of the whole "
            f"(token {at}: {alone} alone, {inside} in it), so the answer's tokens are not known. Answers that begin "
            "or end in white space, or a template that changes earlier turns, do this; correct one of them."
        )

    @property
    def _where(self) -> str:
        assert self._template is not None
        return self._template.where

    def _ids(self, messages: Sequence[Mapping[str, Any]], example: Conversation, *, prompt: bool) -> list[int]:
        """A conversation as ids; `prompt` opens the turn of an answer."""
        assert self._template is not None
        said = [{key: value for key, value in message.items() if key != "weight"} for message in messages]
        try:
            return self._template.encode(said, tools=example.tools, add_generation_prompt=prompt)
        except (TemplateError, UsageError) as problem:
            raise DataError(f"{example.source}: {problem}") from None

    def _check_bos(self, sample: Sample) -> None:
        """A template may write BOS between turns (Llama 2 does), but never two in a row, and never none."""
        bos = self._bos
        if bos is None or not self._tokenizer.add_bos:
            return
        count = int(np.count_nonzero(sample.token_ids == bos))
        first = sample.token_ids[:2].tolist()
        if first[0] != bos or first[1:] == [bos] or (count > 1 and self._template is None):
            raise DataError(
                f"{sample.source}: begins with the tokens {first}, expected BOS (id {bos}) once. Correct the chat "
                "template."
            )


def _is_empty(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    texts = [part.get("text", "") for part in content] if isinstance(content, list) else [content or ""]
    return not "".join(map(str, texts)).strip() and not message.get("tool_calls")


__all__ = ["Sample", "SampleMaker"]
