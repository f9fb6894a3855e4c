"""POST /v1/completions."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from starlette.requests import Request

from gemcut.generate.scheduler import Update
from gemcut.generate.sequence import Sequence as TextSequence
from gemcut.serve.answers import Answer
from gemcut.serve.asked_constraints import constraint_maker
from gemcut.serve.asked_texts import new_texts
from gemcut.serve.bodies import read_json
from gemcut.serve.echoes import Echo, check_echo, echo
from gemcut.serve.errors import RequestError
from gemcut.serve.requests import CompletionRequest, parse
from gemcut.serve.responses import CompletionLogprobs
from gemcut.serve.served_models import ServedModel
from gemcut.serve.server import Server, server_of
from gemcut.serve.shown_text import ShownText

DEFAULT_MAX_TOKENS = 16  # as OpenAI has it


async def completions(request: Request) -> Any:
    """What follows one prompt or several."""
    server = server_of(request)
    models = server.begin_work(request)
    asked = parse(CompletionRequest, await read_json(request, server.settings.max_body_bytes))
    server.note_ignored(request, asked)
    _check(asked)
    model = models.find(asked.model)
    prompts = await asyncio.to_thread(_prompts, model, asked)
    texts = await asyncio.to_thread(_texts, model, asked, prompts, server.settings.max_seconds)
    echoes = await _echoes(server, model, asked, prompts)
    generation = await server.submit(request, model, texts)
    samples = asked.n or 1
    choices = [CompletionChoice(each, asked, model, echoes[index // samples]) for index, each in enumerate(texts)]
    return await Answer("text_completion", server, request, asked, model, choices, generation).respond()


def _check(asked: CompletionRequest) -> None:
    """Refuse what does not go together.

    Raises:
        RequestError: more samples than answers are wanted, or none at all.
    """
    if asked.best_of is not None and asked.best_of != (asked.n or 1):
        raise RequestError(
            f"best_of is {asked.best_of}, expected n, which is {asked.n or 1}. Ask for n and choose yourself.",
            param="best_of",
        )
    if asked.max_tokens == 0 and (not asked.echo or asked.stream):
        raise RequestError(
            "max_tokens is 0, expected at least 1; 0 goes with echo, and without stream.", param="max_tokens"
        )


def _prompts(model: ServedModel, asked: CompletionRequest) -> list[list[int]]:
    """Token ids of each prompt.

    Raises:
        RequestError: an id is outside the vocabulary.
    """
    lm = model.text_model
    prompts = []
    for prompt in _given(asked):
        if isinstance(prompt, str):
            prompt = lm.tokenizer.encode(prompt, add_bos=asked.add_special_tokens is not False)
        elif wrong := [token_id for token_id in prompt if not 0 <= token_id < lm.config.vocab_size]:
            raise RequestError(
                f"prompt: {wrong[0]} is not a token id, expected 0 to {lm.config.vocab_size - 1}.", param="prompt"
            )
        prompts.append(prompt)
    return prompts


def _given(asked: CompletionRequest) -> list[Any]:
    """The prompts as they were sent, one or several."""
    prompt = asked.prompt
    return prompt if isinstance(prompt, list) and not isinstance(prompt[0], int) else [prompt]


async def _echoes(
    server: Server, model: ServedModel, asked: CompletionRequest, prompts: list[list[int]]
) -> list[Echo | None]:
    """What each prompt's answers repeat; nothing where no echo is asked for."""
    if not asked.echo:
        return [None] * len(prompts)
    echoes: list[Echo | None] = []
    for given, prompt in zip(_given(asked), prompts, strict=True):
        check_echo(model.text_model, len(prompt), asked.logprobs)
        text = given if isinstance(given, str) else None
        make = functools.partial(echo, model.text_model, text, prompt, asked.logprobs)
        echoes.append(make() if asked.logprobs is None else await server.engine.call(make))
    return echoes


def _texts(
    model: ServedModel, asked: CompletionRequest, prompts: list[list[int]], max_seconds: float | None
) -> list[TextSequence]:
    texts = new_texts(
        model,
        asked,
        prompts,
        field="prompt",
        max_tokens=DEFAULT_MAX_TOKENS if asked.max_tokens is None else max(asked.max_tokens, 1),
        num_top_logprobs=asked.logprobs,
        max_seconds=max_seconds,
        new_constraint=constraint_maker(asked, model.text_model.constraints, None),
    )
    if asked.max_tokens == 0:
        for text in texts:
            text.end("length")
    return texts


class CompletionChoice:
    """One text of a completion.

    Args:
        sequence: The text.
        asked: The request.
        model: Answers.
        echo: What it repeats of its prompt.
    """

    def __init__(self, sequence: TextSequence, asked: CompletionRequest, model: ServedModel, echo: Echo | None) -> None:
        self._sequence, self._asked, self._echo = sequence, asked, echo
        self._tokenizer = model.text_model.tokenizer
        shows_special = asked.skip_special_tokens is False
        self._text = ShownText(sequence, self._tokenizer, asked, shows_special=shows_special)
        self._logprobs = self._new_logprobs()
        self._shown = [] if echo is None else [echo.text]
        self._entries = list(echo.logprobs or ()) if echo is not None else []
        self._has_begun = False

    def push(self, update: Update) -> list[dict[str, Any]]:
        """See `answers.Choice`."""
        text, entries = self._text.push(update), update.logprobs or []
        self._shown.append(text)
        self._entries += entries
        if not self._has_begun:
            self._has_begun = True
            text, entries = "".join(self._shown), self._entries
        part: dict[str, Any] = {"text": text, "logprobs": self._logprobs.take(entries) if entries else None}
        if self._asked.return_token_ids:
            part["token_ids"] = update.token_ids
        if update.finished:
            return [part | self._ending()]
        return [part | {"finish_reason": None}] if text or entries else []

    def whole(self) -> dict[str, Any]:
        """See `answers.Choice`."""
        logprobs = self._new_logprobs().take(self._entries) if self._asked.logprobs is not None else None
        choice: dict[str, Any] = {"text": "".join(self._shown), "logprobs": logprobs}
        if self._asked.return_token_ids:
            choice |= {"prompt_token_ids": self._sequence.prompt_ids, "token_ids": self._sequence.token_ids}
        return choice | self._ending()

    def _new_logprobs(self) -> CompletionLogprobs:
        return CompletionLogprobs(self._tokenizer, bool(self._asked.logprobs), self._echo is not None)

    def _ending(self) -> dict[str, Any]:
        return {"finish_reason": self._sequence.finish_reason, "stop_reason": self._text.stop_reason}
