"""Types of the fields that clients send, with their limits."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

MAX_PROMPTS = 128
MAX_STOPS = 16
_OTHER_MEDIA = ("image_url", "input_image", "input_audio", "audio_url", "video_url", "file", "input_file")


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _check_content(value: Any) -> Any:
    """A message's content: text, text parts or nothing."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError("a text or a list of text parts")
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in _OTHER_MEDIA:
            raise ValueError(f"text parts only: this model reads text only, and a part is of type {kind!r}")
        if kind != "text" or not isinstance(part.get("text"), str):
            raise ValueError('parts such as {"type": "text", "text": "Hello"}')
    return value


def _check_prompt(value: Any) -> Any:
    """One prompt or several: each a text or token ids."""
    prompts = value if isinstance(value, list) and value and not isinstance(value[0], int) else [value]
    if len(prompts) > MAX_PROMPTS:
        raise ValueError(f"at most {MAX_PROMPTS} prompts")
    for prompt in prompts:
        is_ids = isinstance(prompt, list) and all(type(token_id) is int for token_id in prompt)
        if not prompt or not (isinstance(prompt, str) or is_ids):
            raise ValueError("a text, a list of token ids, or a list of either, none of them empty")
    return value


def _check_schema(value: Any) -> Any:
    """A JSON schema."""
    if value is not None and not isinstance(value, dict | bool):
        raise ValueError("a JSON schema")
    return value


_TEXT_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
_TOKEN_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
_TEXT = {"type": "string", "minLength": 1}
Content = Annotated[
    Any,
    AfterValidator(_check_content),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT_PART}, {"type": "null"}]}),
]
Prompt = Annotated[
    Any,
    AfterValidator(_check_prompt),
    WithJsonSchema(
        {
            "anyOf": [
                _TEXT,
                _TOKEN_IDS,
                {"type": "array", "items": {"anyOf": [_TEXT, _TOKEN_IDS]}, "minItems": 1, "maxItems": MAX_PROMPTS},
            ]
        }
    ),
]
# What tools and tool_choice must be, `gemcut.text.tool_calls` says.
_FUNCTION = {
    "type": "object",
    "properties": {"type": {"const": "function"}, "function": {"type": "object", "required": ["name"]}},
    "required": ["type", "function"],
}
Tools = Annotated[list[Annotated[dict[str, Any], WithJsonSchema(_FUNCTION)]], Field(max_length=128)]
ToolChoice = Annotated[Any, WithJsonSchema({"anyOf": [{"enum": ["none", "auto", "required", None]}, _FUNCTION]})]
Schema = Annotated[
    Any, AfterValidator(_check_schema), WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "boolean"}]})
]
Model = Annotated[str | None, Field(max_length=500, description="A name of GET /v1/models; null for the first.")]
Stops = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=500)]],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
    Field(max_length=MAX_STOPS),
]
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]
Bias = Annotated[float, Field(ge=-100, le=100)]


class Strict(BaseModel):
    """A part of a request: numbers are numbers, and unknown fields are kept aside."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="allow")
