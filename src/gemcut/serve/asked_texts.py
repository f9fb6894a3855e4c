"""From what a request asks to the texts that the scheduler runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from gemcut.errors import ContextLengthError
from gemcut.generate.sequence import Sequence as TextSequence
from gemcut.interfaces import Constraint
from gemcut.serve.errors import RequestError, shown
from gemcut.serve.requests import GenerationRequest
from gemcut.serve.served_models import ServedModel

_SAMPLING = (
    "temperature",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
)


def new_texts(
    model: ServedModel,
    asked: GenerationRequest,
    prompts: Iterable[list[int]],
    *,
    field: str,
    max_tokens: int | None,
    num_top_logprobs: int | None,
    max_seconds: float | None,
    new_constraint: Callable[[], Constraint | None],
) -> list[TextSequence]:
    """The texts of a request: `n` samples of the first prompt, then of the next.

    Args:
        model: Answers.
        asked: The request.
        prompts: Token ids.
        field: Where they came from, for errors.
        max_tokens: Tokens of each text; None for all that the context has room for.
        num_top_logprobs: None for no log-probabilities; k for the chosen token's and k alternatives.
        max_seconds: After which a text ends; None for never.
        new_constraint: Makes what a text must obey, anew for each.

    Raises:
        RequestError: an option does not suit the model.
        ContextLengthError: prompt and answer do not fit the context.
    """
    options = {
        **sampling_of(model, asked),
        "stop": asked.stop or (),
        "stop_token_ids": asked.stop_token_ids or (),
        "min_tokens": asked.min_tokens or 0,
        "ignore_stop_ids": bool(asked.ignore_eos),
        "logprobs": num_top_logprobs,
        "deadline": None if max_seconds is None else time.monotonic() + max_seconds,
    }
    return [
        model.text_model.new_sequence(
            prompt,
            max_tokens=_room(model, prompt, max_tokens, field),
            sample_index=index,
            constraint=new_constraint(),
            **options,
        )
        for prompt in prompts
        for index in range(asked.n or 1)
    ]


def sampling_of(model: ServedModel, asked: GenerationRequest) -> dict[str, Any]:
    """Fields of `gemcut.SamplingOptions`: the request's, and the model's own where it says nothing."""
    given = {name: getattr(asked, name) for name in _SAMPLING if getattr(asked, name) is not None}
    if asked.top_k is not None:
        given["top_k"] = max(asked.top_k, 0)
    if asked.logit_bias:
        given["logit_bias"] = _bias(asked.logit_bias)
    return {**model.defaults, **given}


def _bias(bias: dict[str, float]) -> dict[int, float]:
    """Numbers by token id; in JSON the ids are texts."""
    for key in bias:
        if not (key.isascii() and key.isdigit() and len(key) < 10):
            raise RequestError(f"logit_bias: found {shown(key)}, expected a token id.", param="logit_bias")
    return {int(key): value for key, value in bias.items()}


def _room(model: ServedModel, prompt: list[int], max_tokens: int | None, field: str) -> int:
    """Tokens that the answer may have.

    Raises:
        ContextLengthError: prompt and answer together are more than the context.
    """
    context = model.text_model.context
    room = context - len(prompt)
    if room < (max_tokens or 1):
        answer = f" and the answer {max_tokens}" if max_tokens else ""
        raise ContextLengthError(
            f"{field}: the prompt has {len(prompt)} tokens{answer}, but the context is {context} tokens. "
            "Shorten it, or ask for fewer tokens."
        )
    return max_tokens or room
