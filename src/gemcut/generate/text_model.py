"""A language model with its tokenizer and chat template: what `gemcut.load` gives."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as AbstractSequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from gemcut.config import DecoderConfig
from gemcut.errors import ContextLengthError, TemplateError, UsageError
from gemcut.generate.constraints import GrammarCompiler
from gemcut.generate.runner import runner_for
from gemcut.generate.scheduler import MAX_RUNNING, Scheduler
from gemcut.generate.sequence import GenerationOptions, Sequence
from gemcut.interfaces import Completion, Constraint, LanguageModel, Piece, SamplingOptions
from gemcut.text import ChatTemplate, Tokenizer, stop_token_ids

Prompt = str | AbstractSequence[int]
Message = Mapping[str, Any]
DEFAULT_MAX_TOKENS = 64
MAX_TOP_LOGPROBS = 64


@dataclasses.dataclass(frozen=True)
class Score:
    """How probable a text is after another.

    Attributes:
        logprob: Sum of `token_logprobs`; natural logarithm.
        token_logprobs: One for each token of the continuation.
        token_ids: The continuation's ids.
    """

    logprob: float
    token_logprobs: list[float]
    token_ids: list[int]


class TextModel:
    """A model that takes and gives text.

    Args:
        engine_model: The model on its engine.
        tokenizer: Its tokenizer.
        template: Its chat template; None for a model without one.
        generation_config: The checkpoint's own defaults, as in Hugging Face's generation_config.json.
        is_instruction_tuned: Whether it was trained to chat.
        context: Tokens of prompt and answer together; None for all that the model allows.
        name: How the user named it.

    Attributes:
        tokenizer, template, name: As given.
        context: Tokens of prompt and answer together.
        is_instruction_tuned: Whether the model was trained to chat.
        defaults: Sampling the checkpoint recommends: some of temperature, top_k, top_p, min_p, repetition_penalty.
        stop_token_ids: Ids that end a text.
        load_seconds: Time from the reference to a ready model; 0.0 unless `load` made it.
        path, adapter: The files that `load` took weights and adapter from; None otherwise, and without an adapter.
    """

    def __init__(
        self,
        engine_model: LanguageModel,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        *,
        generation_config: Mapping[str, Any] | None = None,
        is_instruction_tuned: bool = False,
        context: int | None = None,
        name: str = "model",
    ) -> None:
        limit = engine_model.config.max_position_embeddings
        if context is not None and not 1 <= context <= limit:
            raise ContextLengthError(f"context is {context}, expected 1 to {limit}, the model's own context.")
        self._engine_model = engine_model
        self.tokenizer, self.template, self.name = tokenizer, template, name
        self.context = context or limit
        self.is_instruction_tuned = is_instruction_tuned
        self.defaults = sampling_defaults(generation_config or {})
        self.stop_token_ids = stop_token_ids(tokenizer, generation_config)
        self.load_seconds = 0.0
        self.path: Path | None = None
        self.adapter: Path | None = None

    @property
    def config(self) -> DecoderConfig:
        """The model's configuration."""
        return self._engine_model.config

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self._engine_model.engine

    @property
    def dtype(self) -> str:
        """The compute type."""
        return self._engine_model.dtype

    @property
    def device(self) -> str:
        """The device in words."""
        return self._engine_model.device

    @property
    def num_threads(self) -> int:
        """CPU threads the engine computes with."""
        return self._engine_model.num_threads

    @property
    def engine_model(self) -> LanguageModel:
        """The model on its engine: token ids in, numbers out."""
        return self._engine_model

    @functools.cached_property
    def constraints(self) -> GrammarCompiler:
        """Compiles what answers must obey."""
        return GrammarCompiler(self.tokenizer, self.stop_token_ids)

    @property
    def keras_model(self) -> Any:
        """The Keras model, on a Keras engine."""
        model = getattr(self._engine_model, "keras_model", None)
        if model is None:
            raise UsageError(
                f'engine "{self.engine}" has no Keras model; load with engine="jax" (or torch, tensorflow).'
            )
        return model

    @overload
    def generate(self, prompt: str, **options: Any) -> Completion: ...
    @overload
    def generate(self, prompt: AbstractSequence[Any], **options: Any) -> Any: ...

    def generate(
        self,
        prompt: Any,
        *,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        n: int = 1,
        stop: str | AbstractSequence[str] = (),
        logprobs: int | None = None,
        json_schema: Mapping[str, Any] | bool | None = None,
        regex: str | None = None,
        grammar: str | None = None,
        **sampling: Any,
    ) -> Any:
        """Complete one prompt or many.

        Args:
            prompt: A text (BOS is put in front), a list of token ids (taken as given), or a list of either.
            max_tokens: Tokens to generate at most; at least 1.
            n: Completions for each prompt.
            stop: A string, or several, that end the text and are cut off.
            logprobs: None, or how many alternatives to report beside each chosen token.
            json_schema, regex, grammar: At most one of them: the answer is JSON of that schema (`True` for any JSON),
                a text that the pattern matches as a whole, or one of the Lark grammar; see `GrammarCompiler`. It is
                cut off where `max_tokens` ends it.
            **sampling: Fields of `gemcut.SamplingOptions`; greedy unless told otherwise.

        Returns:
            A Completion for one prompt, a list for a list of prompts; with `n` above 1 a list for each prompt.

        Raises:
            UsageError: an argument is out of range, or a prompt is empty.
            ContextLengthError: a prompt leaves no room in the context.
        """
        if n < 1:
            raise UsageError(f"n is {n}, expected at least 1.")
        single = _is_single(prompt)
        options = self._options(max_tokens, stop, logprobs, sampling)
        constrained = self._constrained(options, json_schema, regex, grammar)
        groups = [
            [self._sequence(token_ids, constrained(), index) for index in range(n)]
            for token_ids in map(self._prompt_ids, [prompt] if single else prompt)
        ]
        self.new_scheduler().run([sequence for group in groups for sequence in group])
        results = [[sequence.completion() for sequence in group] for group in groups]
        answers = [group if n > 1 else group[0] for group in results]
        return answers[0] if single else answers

    def stream(
        self,
        prompt: Prompt,
        *,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        stop: str | AbstractSequence[str] = (),
        logprobs: int | None = None,
        json_schema: Mapping[str, Any] | bool | None = None,
        regex: str | None = None,
        grammar: str | None = None,
        **sampling: Any,
    ) -> Iterator[Piece]:
        """Complete one prompt piece by piece; arguments as in `generate`.

        Yields:
            Pieces of whole characters; the last one carries the completion.
        """
        options = self._options(max_tokens, stop, logprobs, sampling)
        constrained = self._constrained(options, json_schema, regex, grammar)
        return self._stream(self._sequence(self._prompt_ids(prompt), constrained()))

    def chat(
        self, messages: AbstractSequence[Message], *, system: str | None = None, tools: Any = None, **options: Any
    ) -> Any:
        """The model's answer to a conversation.

        Args:
            messages: OpenAI-style dicts with "role" and "content"; the last one is usually the user's.
            system: Text put before the messages as a system message.
            tools: OpenAI-style tool descriptions, for templates that take them.
            **options: As in `generate`; sampling starts from `defaults`.

        Returns:
            A Completion, or a list of them with `n` above 1.

        Raises:
            TemplateError: the model has no chat template, or it refuses the conversation.
        """
        return self.generate(self.chat_prompt(messages, system=system, tools=tools), **{**self.defaults, **options})

    def chat_stream(
        self, messages: AbstractSequence[Message], *, system: str | None = None, tools: Any = None, **options: Any
    ) -> Iterator[Piece]:
        """As `chat`, piece by piece."""
        return self.stream(self.chat_prompt(messages, system=system, tools=tools), **{**self.defaults, **options})

    def chat_prompt(
        self, messages: AbstractSequence[Message], *, system: str | None = None, tools: Any = None
    ) -> list[int]:
        """Token ids of a conversation up to the model's turn, by its chat template."""
        if self.template is None:
            raise TemplateError(f"{self.name}: the model has no chat template. Use generate() or `gemcut run`.")
        if system is not None:
            messages = [{"role": "system", "content": system}, *messages]
        return self.template.encode(messages, tools=tools)

    def logits(self, token_ids: AbstractSequence[int]) -> np.ndarray:
        """float32 (T, V): next-token logits after each of T tokens."""
        return self._engine_model.logits(self._checked(list(token_ids), room=0))

    def score(self, prompt: Prompt, continuation: Prompt) -> Score:
        """How probable `continuation` is after `prompt`.

        Text is encoded together, so a token may not span the border only where the tokenizer lets it.

        Raises:
            UsageError: prompt or continuation has no tokens.
            ContextLengthError: both together do not fit the context.
        """
        prompt_ids, continuation_ids = self._split(prompt, continuation)
        if not continuation_ids:
            raise UsageError("continuation: it is empty, expected at least one token.")
        token_ids = self._checked([*prompt_ids, *continuation_ids], room=0)
        values = self._engine_model.score([token_ids])[0][len(prompt_ids) - 1 :].tolist()
        return Score(float(np.sum(values, dtype=np.float64)), values, continuation_ids)

    def new_sequence(
        self,
        prompt_ids: AbstractSequence[int],
        *,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        stop: str | AbstractSequence[str] = (),
        logprobs: int | None = None,
        sample_index: int = 0,
        constraint: Constraint | None = None,
        min_tokens: int = 0,
        ignore_stop_ids: bool = False,
        stop_token_ids: AbstractSequence[int] = (),
        deadline: float | None = None,
        **sampling: Any,
    ) -> Sequence:
        """A text for a scheduler of this model: what `generate` makes of one prompt.

        Args:
            prompt_ids: The prompt, as given.
            max_tokens, stop, logprobs, **sampling: As in `generate`.
            sample_index: Which of several samples of this prompt it is; with a seed, each draws its own numbers.
            constraint: What the text may say; it belongs to this text alone.
            min_tokens: Tokens to generate before a stop id may end it.
            ignore_stop_ids: Whether the model's own stop ids do not end it.
            stop_token_ids: More ids that do.
            deadline: When it ends whatever it has, in seconds of `time.monotonic`.

        Raises:
            UsageError: an argument is out of range, or the prompt is empty.
            ContextLengthError: the prompt leaves no room in the context.
        """
        if not 0 <= min_tokens <= max_tokens:
            raise UsageError(f"min_tokens is {min_tokens}, expected 0 to max_tokens, which is {max_tokens}.")
        own = () if ignore_stop_ids else self.stop_token_ids
        options = dataclasses.replace(
            self._options(max_tokens, stop, logprobs, sampling),
            stop_token_ids=(*own, *(self._token_id(each, "stop_token_ids") for each in stop_token_ids)),
            constraint=constraint,
            min_tokens=min_tokens,
            ignore_stop_ids=ignore_stop_ids,
        )
        token_ids = [self._token_id(each, "prompt") for each in prompt_ids]
        return self._sequence(token_ids, options, sample_index, deadline)

    def new_scheduler(
        self, max_running: int = MAX_RUNNING, max_waiting: int | None = None, cache_bytes: int | None = None
    ) -> Scheduler:
        """A scheduler of this model's engine; arguments as `generate.scheduler.Scheduler` has them."""
        runner = runner_for(self._engine_model)
        return Scheduler(runner, max_running=max_running, max_waiting=max_waiting, cache_bytes=cache_bytes)

    def close(self) -> None:
        """Free the weights; later calls raise."""
        self._engine_model.close()

    def _stream(self, sequence: Sequence) -> Iterator[Piece]:
        shown = 0
        for text in self.new_scheduler().stream(sequence):
            done = sequence.finish_reason is not None
            if text or done:
                new, shown = sequence.token_ids[shown:], len(sequence.token_ids)
                yield Piece(text, new, sequence.completion() if done else None)

    def _options(
        self, max_tokens: int, stop: str | AbstractSequence[str], logprobs: int | None, sampling: dict[str, Any]
    ) -> GenerationOptions:
        if max_tokens < 1:
            raise UsageError(f"max_tokens is {max_tokens}, expected at least 1.")
        if logprobs is not None and not 0 <= logprobs <= MAX_TOP_LOGPROBS:
            raise UsageError(f"logprobs is {logprobs}, expected None or 0 to {MAX_TOP_LOGPROBS}.")
        known = {field.name for field in dataclasses.fields(SamplingOptions)}
        if unknown := sorted(set(sampling) - known):
            raise UsageError(f"unknown option {unknown[0]!r}, expected one of {', '.join(sorted(known))}.")
        bias = sampling.pop("logit_bias", None) or ()
        pairs = tuple((int(key), float(value)) for key, value in (bias.items() if isinstance(bias, Mapping) else bias))
        for token_id, _ in pairs:
            self._token_id(token_id, "logit_bias")
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        chosen = SamplingOptions(logit_bias=pairs, **sampling)
        return GenerationOptions(max_tokens, stops, self.stop_token_ids, logprobs, chosen)

    def _constrained(
        self,
        options: GenerationOptions,
        json_schema: Mapping[str, Any] | bool | None,
        regex: str | None,
        grammar: str | None,
    ) -> Callable[[], GenerationOptions]:
        """Makes the options of each text, which has its constraint for itself."""
        given = {"json_schema": json_schema, "regex": regex, "lark": grammar}
        named = [(name, value) for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise UsageError("json_schema, regex, grammar: found more than one, expected one of them at most.")
        if not named:
            return lambda: options
        name, value = named[0]
        make = getattr(self.constraints, name)
        return lambda: dataclasses.replace(options, constraint=make(value))

    def _token_id(self, token_id: int, where: str) -> int:
        if not 0 <= token_id < self.config.vocab_size:
            raise UsageError(f"{where}: {token_id} is not a token id, expected 0 to {self.config.vocab_size - 1}.")
        return int(token_id)

    def _sequence(
        self,
        prompt_ids: list[int],
        options: GenerationOptions,
        sample_index: int = 0,
        deadline: float | None = None,
    ) -> Sequence:
        token_ids = self._checked(prompt_ids, room=1)
        limit = min(options.max_tokens, self.context - len(token_ids))
        return Sequence(token_ids, self.tokenizer, options, limit, sample_index, deadline)

    def _prompt_ids(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            if not prompt:
                raise UsageError("prompt: it is empty, expected some text.")
            return self.tokenizer.encode(prompt)
        return [int(token_id) for token_id in prompt]

    def _checked(self, token_ids: list[int], room: int) -> list[int]:
        if not token_ids:
            raise UsageError("prompt: it is empty, expected at least one token.")
        if len(token_ids) + room > self.context:
            raise ContextLengthError(
                f"prompt: it has {len(token_ids)} tokens, but the context is {self.context} tokens. "
                "Shorten it, or raise the context if the model allows more."
            )
        return token_ids

    def _split(self, prompt: Prompt, continuation: Prompt) -> tuple[list[int], list[int]]:
        prompt_ids = self._prompt_ids(prompt)
        if isinstance(prompt, str) and isinstance(continuation, str):
            together = self.tokenizer.encode(prompt + continuation)
            if together[: len(prompt_ids)] == prompt_ids:
                return prompt_ids, together[len(prompt_ids) :]
        if isinstance(continuation, str):
            return prompt_ids, self.tokenizer.encode(continuation, add_bos=False)
        return prompt_ids, [int(token_id) for token_id in continuation]


def sampling_defaults(generation_config: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling options that a generation_config.json recommends; empty when it asks for greedy decoding."""
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    chosen = {name: generation_config[name] for name in names if generation_config.get(name) is not None}
    draws = generation_config.get("do_sample", "temperature" in chosen)
    if not draws:
        return {name: value for name, value in chosen.items() if name == "repetition_penalty"}
    return {"temperature": 1.0, **chosen}


def _is_single(prompt: Any) -> bool:
    """Whether a prompt argument is one prompt: a text, or a flat sequence of ids."""
    if isinstance(prompt, str):
        return True
    items = list(prompt)
    return bool(items) and all(isinstance(item, (int, np.integer)) for item in items)
