"""What clients may ask: the fields of OpenAI's interface and its common extensions, with their types and limits.

Fields that are not here are accepted and named in the log once, but for those in `REFUSED`: to ignore them would
change what the answer means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from gemcut.serve.errors import RequestError, field_of, shown
from gemcut.serve.fields import Bias, Content, Model, Prompt, Schema, Stops, Strict, TokenId, ToolChoice, Tools

MAX_SAMPLES = 128
MAX_TOP_LOGPROBS = 20

# Name of a field: what to do without it. Each is refused unless it is null, false, 0 or an empty text or list.
REFUSED = {
    "allowed_token_ids": "Use logit_bias, regex or grammar.",
    "audio": "This model writes text only.",
    "bad_words": "Use logit_bias or regex.",
    "cache_salt": "Prompts of all clients share one prefix cache.",
    "chat_template": "The model's own chat template is used.",
    "documents": "Put them into the messages.",
    "ebnf": "Use grammar, which takes Lark's form, or regex.",
    "function_call": "Use tool_choice.",
    "functions": "Use tools.",
    "guided_choice": 'Use structured_outputs: {"choice": [...]}.',
    "guided_grammar": "Use grammar.",
    "guided_json": "Use response_format.",
    "guided_regex": "Use regex.",
    "logits_processors": "Use logit_bias.",
    "mm_processor_kwargs": "This model reads text only.",
    "moderation": "This server does not moderate.",
    "prompt_embeds": "Give a text or token ids.",
    "prompt_logprobs": "Use /v1/completions with echo and logprobs.",
    "store": "This server stores nothing.",
    "suffix": "This model does not fill in the middle.",
    "truncate_prompt_tokens": "Shorten the prompt; nothing is cut off silently.",
    "use_beam_search": "Use n and temperature.",
    "web_search_options": "This server does not search the web.",
}


class StreamOptions(Strict):
    """What a stream has beside the text."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class JsonSchema(Strict):
    """The `json_schema` of a response format."""

    name: Annotated[str | None, Field(max_length=64)] = None
    description: str | None = None
    schema_: Annotated[Schema, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(Strict):
    """The form that the answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> ResponseFormat:
        if self.type == "json_schema" and (self.json_schema is None or self.json_schema.schema_ is None):
            raise _unfit('json_schema is missing, expected {"name": ..., "schema": {...}}')
        return self


class StructuredOutputs(Strict):
    """The same as vLLM has it; one of the fields."""

    json_: Annotated[Schema, Field(alias="json")] = None
    regex: Annotated[str | None, Field(max_length=20_000)] = None
    choice: Annotated[list[str] | None, Field(min_length=1, max_length=1000)] = None
    grammar: Annotated[str | None, Field(max_length=200_000)] = None
    json_object: bool | None = None


class GenerationRequest(Strict):
    """What both endpoints that generate text understand; null is as if left out."""

    model: Model = None
    temperature: Annotated[float | None, Field(ge=0, le=100)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    top_k: Annotated[int | None, Field(ge=-1, lt=1 << 31, description="0 and -1 keep all tokens.")] = None
    min_p: Annotated[float | None, Field(ge=0, lt=1)] = None
    repetition_penalty: Annotated[float | None, Field(gt=0, le=100)] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    logit_bias: Annotated[dict[str, Bias] | None, Field(max_length=1024)] = None
    seed: Annotated[int | None, Field(ge=-(1 << 63), lt=1 << 63)] = None
    n: Annotated[int | None, Field(ge=1, le=MAX_SAMPLES)] = None
    stop: Stops | None = None
    stop_token_ids: Annotated[list[TokenId] | None, Field(max_length=128)] = None
    include_stop_str_in_output: bool | None = None
    min_tokens: Annotated[int | None, Field(ge=0, lt=1 << 31)] = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    regex: Annotated[str | None, Field(max_length=20_000)] = None
    grammar: Annotated[str | None, Field(max_length=200_000, description="A grammar in Lark's form.")] = None
    return_token_ids: bool | None = None
    user: Annotated[str | None, Field(max_length=2000)] = None

    @model_validator(mode="after")
    def _options_fit(self) -> GenerationRequest:
        if self.stream_options is not None and not self.stream:
            raise _unfit("stream_options is given, but stream is not true")
        return self


class Message(Strict):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class ChatRequest(GenerationRequest):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int | None, Field(ge=1, lt=1 << 31)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1, lt=1 << 31)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=MAX_TOP_LOGPROBS)] = None
    tools: Tools | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    modalities: list[Literal["text"]] | None = None

    @model_validator(mode="after")
    def _logprobs_fit(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise _unfit("top_logprobs is given, but logprobs is not true")
        return self


class CompletionRequest(GenerationRequest):
    """The body of POST /v1/completions."""

    prompt: Prompt
    max_tokens: Annotated[int | None, Field(ge=0, lt=1 << 31)] = None
    logprobs: Annotated[int | None, Field(ge=0, le=MAX_TOP_LOGPROBS)] = None
    echo: bool | None = None
    best_of: Annotated[int | None, Field(ge=1, le=MAX_SAMPLES)] = None
    add_special_tokens: bool | None = None


class TokenizeRequest(Strict):
    """The body of POST /tokenize: a prompt, or messages."""

    model: Model = None
    prompt: str | None = None
    messages: Annotated[list[Message] | None, Field(min_length=1)] = None
    tools: Tools | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _has_one(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise _unfit("one of prompt and messages is expected")
        return self


class DetokenizeRequest(Strict):
    """The body of POST /detokenize."""

    model: Model = None
    tokens: list[TokenId]


Kind = TypeVar("Kind", bound=Strict)


def parse(kind: type[Kind], body: Any) -> Kind:
    """A request body as what it should be.

    Raises:
        RequestError: it is not; the message names the first field at fault.
    """
    if not isinstance(body, Mapping):
        raise RequestError(f"body: found {shown(body)}, expected a JSON object.")
    for name, advice in REFUSED.items():
        if body.get(name) not in (None, False, "", []) and name not in kind.model_fields:
            raise RequestError(f"{name}: it is not supported. {advice}", param=name, code="unsupported_parameter")
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise _refusal(error) from None


def _unfit(message: str) -> PydanticCustomError:
    """Fields that do not go together; the message begins with one of them."""
    return PydanticCustomError("unfit", "{message}", {"message": message})


def _refusal(error: ValidationError) -> RequestError:
    """The first problem that pydantic found, in our words."""
    problem = error.errors(include_url=False)[0]
    where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in problem["loc"]).lstrip(".")[:200]
    message = problem["msg"]
    if problem["type"] == "unfit":
        return RequestError(f"{where}: {message}." if where else f"{message}.", param=where or field_of(message))
    if problem["type"] == "missing":
        return RequestError(f"{where}: it is missing. Give it.", param=where, code="missing_required_parameter")
    for opening in ("Input should be ", "Value error, "):
        message = message.replace(opening, "expected ")
    return RequestError(f"{where}: found {shown(problem['input'])}; {message}.", param=where)
