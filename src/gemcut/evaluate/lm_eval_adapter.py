"""A model of lm-evaluation-harness that Gemcut computes: `lm_eval --model gemcut --model_args pretrained=starter ...`.

Only lm-evaluation-harness imports this file: by the line of gemcut_lm_eval.pth, or by a program of a user's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lm_eval.models  # noqa: F401 - it lists its own models only while no other is known
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from tqdm import tqdm

from gemcut.errors import TemplateError, UsageError
from gemcut.evaluate.asker import Asker, Question
from gemcut.evaluate.encoding import EncodedPrompt, Encoder
from gemcut.evaluate.identity import identity_of
from gemcut.evaluate.task import Answer, ChoiceScore, GenerateRequest, Request, RollingRequest, ScoreRequest
from gemcut.generate import load

MAX_TOKENS = 256  # where a task does not say; lm-evaluation-harness has the same
SIDE_BY_SIDE = 32  # prompts that are answered in one call
# lm-evaluation-harness's names of sampling settings, which are those of Hugging Face, and Gemcut's.
SAMPLING = {"temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p",
            "repetition_penalty": "repetition_penalty"}  # fmt: skip
HARMLESS = ("until", "max_gen_toks", "do_sample", "num_beams", "use_cache")


@register_model("gemcut")
class GemcutLM(LM):
    """A model on one of Gemcut's engines.

    Args:
        pretrained: Any model reference of Gemcut's, such as "starter" or a path.
        engine, dtype, threads, context, adapter: As of `gemcut.load`.
        batch_size, max_batch_size: What lm-evaluation-harness hands to every model; Gemcut finds its own.
        device: None, "cpu", or the device that the engine computes on: the engine chooses it.

    Raises:
        UsageError: an argument that is none, or another device.
        GemcutError: what `gemcut.load` raises.
    """

    def __init__(
        self,
        pretrained: str,
        engine: str = "auto",
        dtype: str = "auto",
        threads: int | None = None,
        context: int | None = None,
        adapter: str | None = None,
        batch_size: Any = None,
        max_batch_size: Any = None,
        device: str | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            raise UsageError(
                f"--model_args: {next(iter(unknown))!r} is none of Gemcut's, expected some of pretrained, engine, "
                "dtype, threads, context, adapter."
            )
        self.model = load(
            pretrained, engine=engine, dtype=dtype, threads=threads, context=context, adapter=adapter or None
        )
        if device is not None and not self.model.engine_model.device.startswith(device.split(":")[0]):
            raise UsageError(
                f"--device {device}: the engine {self.model.engine} computes on {self.model.engine_model.device}. "
                "Leave it out, or name another engine."
            )
        self._encoder, self._asker = Encoder(self.model), Asker(self.model)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """For each (context, continuation): natural logarithm of its probability, and whether it is greedy."""
        asked = [ScoreRequest(*request.args) for request in requests]
        found: list[tuple[float, bool]] = [(0.0, False)] * len(asked)
        for number, answer in self._answers(asked, disable_tqdm):
            assert isinstance(answer, ChoiceScore)
            found[number] = (answer.logprob, answer.is_greedy)
            self.cache_hook.add_partial("loglikelihood", requests[number].args, found[number])
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """For each text of any length: natural logarithm of its probability."""
        found = [0.0] * len(requests)
        for number, answer in self._answers([RollingRequest(*request.args) for request in requests], disable_tqdm):
            assert not isinstance(answer, str)
            found[number] = answer.logprob
            self.cache_hook.add_partial("loglikelihood_rolling", requests[number].args, found[number])
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """For each (prompt, settings): what the model writes up to one of the texts in `until`, which is left out."""
        found = [""] * len(requests)
        groups: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(number)
        with tqdm(total=len(requests), disable=disable_tqdm, desc="Running generate_until requests") as bar:
            for settings, numbers in groups.items():
                options = generation_options(json.loads(settings))
                stop, max_tokens = options["stop"], options["max_tokens"]
                for first in range(0, len(numbers), SIDE_BY_SIDE):
                    some = numbers[first : first + SIDE_BY_SIDE]
                    asked = [GenerateRequest(requests[number].args[0], stop, max_tokens) for number in some]
                    for number, text in zip(some, self._written(asked, options), strict=True):
                        found[number] = text
                        self.cache_hook.add_partial("generate_until", requests[number].args, text)
                    bar.update(len(some))
        return found

    def _answers(self, asked: Sequence[Request], disable_tqdm: bool) -> Iterator[tuple[int, Answer]]:
        questions = [
            Question(self._encoder.encode(request, f"request {number}"), number, 0, f"request {number}")
            for number, request in enumerate(asked)
        ]
        with tqdm(total=len(asked), disable=disable_tqdm, desc="Running loglikelihood requests") as bar:
            for batch in self._asker.plan(questions):
                for answered in self._asker.ask(questions, batch.numbers):
                    yield from answered
                    bar.update(len(answered))

    def _written(self, asked: Sequence[GenerateRequest], options: Mapping[str, Any]) -> list[str]:
        encoded = [self._encoder.encode(request, f"prompt {request.prompt[:40]!r}") for request in asked]
        prompts = [each.token_ids.tolist() for each in encoded if isinstance(each, EncodedPrompt)]
        return [completion.text for completion in self.model.generate(prompts, **options)]

    @property
    def tokenizer_name(self) -> str:
        """What tells tokenizer and chat template from others; lm-evaluation-harness keeps prompts under it."""
        return f"gemcut-{identity_of(self.model).tokenizer_sha256}"

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The source of the model's chat template; an empty text where none is asked for.

        Raises:
            UsageError: one is asked for by name.
            TemplateError: the model has none.
        """
        if isinstance(chat_template, str):
            raise UsageError(f"--apply_chat_template {chat_template}: a model has one template here. Give no name.")
        return self._template().source if chat_template else ""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as the model's chat template writes it; prompts are such texts from now on.

        An answer that is begun already, as the last message, goes on where it ends.
        """
        self._encoder = Encoder(self.model, is_rendered=True)
        return self._template().render(
            chat_history,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    def _template(self) -> Any:
        if self.model.template is None:
            raise TemplateError(f"{self.model.name}: the model has no chat template. Leave --apply_chat_template out.")
        return self.model.template

    def get_model_info(self) -> dict[str, Any]:
        """What the report says of the model: digests of its files, engine and number format."""
        return {f"gemcut_{name}": value for name, value in identity_of(self.model).as_dict().items()}


def generation_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `TextModel.generate` for a task's generation settings.

    Raises:
        UsageError: a setting that Gemcut has not.
    """
    until = settings.get("until") or ()
    options: dict[str, Any] = {
        "stop": (until,) if isinstance(until, str) else tuple(until),
        "max_tokens": int(settings.get("max_gen_toks", MAX_TOKENS)),
    }
    if unknown := [name for name in settings if name not in SAMPLING and name not in HARMLESS]:
        raise UsageError(
            f"--gen_kwargs: {unknown[0]!r} is not known, expected some of {', '.join((*SAMPLING, *HARMLESS))}."
        )
    if settings.get("num_beams", 1) != 1:
        raise UsageError(f"--gen_kwargs: num_beams is {settings['num_beams']}, expected 1: there is no beam search.")
    temperature = float(settings.get("temperature", 1.0 if settings.get("do_sample") else 0.0))
    if not settings.get("do_sample", temperature > 0) or temperature == 0:
        return options
    return (
        options
        | {SAMPLING[name]: value for name, value in settings.items() if name in SAMPLING}
        | {"temperature": temperature}
    )
