"""Requests whose answers must be the same from `gemcut serve` and from vLLM, and how they are compared."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

from http_client import Address, Connection

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TOLERANCE = 1e-3  # of log-probabilities
HELLO = [{"role": "user", "content": "Name three colours of the rainbow."}]
TALK = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": [{"type": "text", "text": "And 3 + 3, in Привет and 日本語?"}]},
]
SKY = "The planets of the solar system, in order from the Sun, are"
# Fields of vLLM's answers that ours do not have, or have otherwise, and why.
DIFFERENT_ON_PURPOSE = {
    "id": "random",
    "created": "the time",
    "system_fingerprint": "names the version, the engine and the model",
    "service_tier": "always null in vLLM",
    "metrics": "always null in vLLM",
    "kv_transfer_params": "vLLM's own",
    "ec_transfer_params": "vLLM's own",
    "permission": "vLLM's own",
    "owned_by": "names the server",
    "root": "a path in vLLM",
    "prompt_logprobs": "refused by name; echo gives them",
    "prompt_token_ids": "null unless asked for",
    "prompt_text": "null unless asked for",
    "token_ids": "null unless asked for",
    "token_strs": "null unless asked for",
    "routed_experts": "vLLM's own",
    "weight_version": "vLLM's own",
    "annotations": "always null in vLLM",
    "audio": "always null in vLLM",
    "function_call": "always null in vLLM",
    "reasoning": "always null for these models",
    "reasoning_content": "always null for these models",
    "tool_calls": "an empty list in vLLM where nothing is called, left out here, as OpenAI does",
    "timings": "ours",
    "refusal": "ours in chunks, as OpenAI has it",
    "prompt_tokens_details": "ours always, vLLM's when asked for at its start",
    "completion_tokens_details": "always null in vLLM",
    "message": "of an error: each has its own words",
    "type": "of an error: vLLM names the exception",
    "code": "of an error: a number in vLLM, a word here, as OpenAI has it",
    "param": "of an error: vLLM names the field in few of them",
    "cached_tokens": "each has its own cache",
}
_OF_ERRORS = ("message", "type", "code", "param")


@dataclasses.dataclass(frozen=True)
class Request:
    """A request that both understand.

    Attributes:
        name: In words.
        path, body: Of the request; without a body it is a GET.
        differs: A field of the answer that differs on purpose, and why.
    """

    name: str
    path: str
    body: dict[str, Any]
    differs: tuple[str, str] | None = None


def _chat(name: str, differs: tuple[str, str] | None = None, **options: Any) -> Request:
    body = {"messages": HELLO, "max_tokens": 24, "temperature": 0} | options
    return Request(f"chat, {name}", CHAT, body, differs)


def _text(name: str, differs: tuple[str, str] | None = None, **options: Any) -> Request:
    body = {"prompt": SKY, "max_tokens": 24, "temperature": 0} | options
    return Request(f"completions, {name}", COMPLETIONS, body, differs)


_SAMPLES = {"n": 2, "temperature": 1.0, "top_k": 1}  # vLLM refuses several samples without a temperature
_ROLE = ("role", "the answer's; in vLLM that of the last message where no answer is announced")
_NO_TOPS = ("top_logprobs", "null where no alternatives are asked for, as OpenAI has it; the token itself in vLLM")
_OFFSETS = ("text_offset", "vLLM counts the characters of <bos>, which the text does not have")
_STREAM = {"stream": True, "stream_options": {"include_usage": True}}
REQUESTS: tuple[Request, ...] = (
    _chat("greedy"),
    _chat("a talk", messages=TALK),
    _chat("stream", **_STREAM),
    _chat("logprobs", logprobs=True, top_logprobs=5),
    _chat("logprobs without others", logprobs=True),
    _chat("logprobs in a stream", logprobs=True, top_logprobs=2, **_STREAM),
    _chat("two samples", **_SAMPLES),
    _chat("two samples in a stream", **_SAMPLES, **_STREAM),
    _chat("stop", stop=["o", "ing"]),
    _chat("stop, kept", stop=["o", "ing"], include_stop_str_in_output=True),
    _chat("stop in a stream", stop=["o", "ing"], **_STREAM),
    _chat("stop token", stop_token_ids=[107, 108, 236764, 236761, 236743]),
    _chat("one token", max_tokens=1),
    _chat("max_completion_tokens", max_tokens=None, max_completion_tokens=5),
    _chat("more tokens than it needs", max_tokens=200),
    _chat("ignore_eos", max_tokens=40, ignore_eos=True),
    _chat("min_tokens", min_tokens=10),
    _chat("logit_bias", logit_bias={"236776": 50, "107": -100}, max_tokens=6),
    _chat("repetition_penalty", repetition_penalty=1.3),
    _chat("presence and frequency penalty", presence_penalty=0.8, frequency_penalty=0.4),
    _chat("no generation prompt", _ROLE, add_generation_prompt=False),
    _chat("goes on", messages=[*HELLO, {"role": "assistant", "content": "Red,"}], continue_final_message=True,
          add_generation_prompt=False),
    _chat("top_k of one", temperature=1.0, top_k=1),
    _text("greedy"),
    _text("stream", **_STREAM),
    _text("several prompts", prompt=[SKY, "Water boils at"]),
    _text("token ids", prompt=[2, 818, 5279, 529, 7001, 563]),
    _text("lists of token ids", prompt=[[2, 818, 5279, 529], [2, 818]]),
    _text("echo", echo=True),
    _text("echo in a stream", echo=True, **_STREAM),
    _text("logprobs", logprobs=3),
    _text("no others", _NO_TOPS, logprobs=0),
    _text("logprobs in a stream", logprobs=2, **_STREAM),
    _text("echo and logprobs", _OFFSETS, echo=True, logprobs=2, max_tokens=4),
    _text("two samples of two prompts", prompt=[SKY, "Water boils at"], max_tokens=6, **_SAMPLES),
    _text("stop", stop=[" Sun", ","]),
    _text("the default length", max_tokens=None),
    Request("models", "/v1/models", {}),
    Request("tokenize", "/tokenize", {"prompt": "Привет, 日本語 🙂  \n\tx = 1"}),
    Request("tokenize a talk", "/tokenize", {"messages": TALK}),
    Request("detokenize", "/detokenize", {"tokens": [2, 818, 5279, 236743, 107]}),
    _chat("temperature below 0", temperature=-1),
    _chat("top_p over 1", top_p=2),
    _chat("no samples", n=0),
    _chat("an answer over the context", max_tokens=5000),
    _chat("a prompt over the context", messages=[{"role": "user", "content": "word " * 3000}]),
    _chat("an unknown model", model="none"),
    Request("chat, no messages", CHAT, {"max_tokens": 1}),
)  # fmt: skip


async def answers_of(address: Address, model: str) -> list[Any]:
    """What a server answers to every request: status and body; streams are put together."""
    return [await _answer(address, request, {"model": model} | request.body) for request in REQUESTS]


def differences(request: Request, ours: Any, theirs: Any) -> list[str]:
    """What of vLLM's answer ours has not, or has otherwise."""
    if ours["status"] != theirs["status"]:
        return [f"status {ours['status']}, vLLM {theirs['status']} ({json.dumps(theirs['body'])[:200]})"]
    kept = _OF_ERRORS if ours["status"] < 400 else ()
    on_purpose = {*DIFFERENT_ON_PURPOSE, *(request.differs or ())}.difference(kept)
    return list(_compared(ours["body"], theirs["body"], "", on_purpose))


async def _answer(address: Address, request: Request, body: dict[str, Any]) -> dict[str, Any]:
    async with Connection(address) as connection:
        method = "POST" if request.body else "GET"
        answer = await connection.ask(method, request.path, body if request.body else None)
        if not body.get("stream") or answer.status != 200:
            return {"status": answer.status, "body": json.loads(await answer.body())}
        events = [event async for event in answer.events()]
    assert events[-1] == "[DONE]", events[-1]
    return {"status": answer.status, "body": _joined([json.loads(event) for event in events[:-1]])}


def _joined(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """A stream as one document: texts and log-probabilities added up, however they were cut."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            whole = choices.setdefault(choice["index"], {"index": choice["index"], "text": "", "logprobs": {}})
            delta = choice.get("delta", {})
            whole["text"] += (delta.get("content") or "") + (choice.get("text") or "")
            for name in ("finish_reason", "stop_reason"):
                whole[name] = choice.get(name) or whole.get(name)
            whole["role"] = delta.get("role") or whole.get("role")
            for name, values in (choice.get("logprobs") or {}).items():
                if values is not None and values != []:
                    whole["logprobs"][name] = [*whole["logprobs"].get(name, []), *values]
    head = {name: value for name, value in chunks[0].items() if name not in ("choices", "usage")}
    return head | {"choices": [choices[index] for index in sorted(choices)], "usage": chunks[-1]["usage"]}


def _compared(ours: Any, theirs: Any, where: str, on_purpose: set[str]) -> Iterator[str]:
    """Differences of two values, in words."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        # A token that is a part of a character has neither text nor bytes in vLLM.
        unknown = ("token", "bytes") if theirs.get("bytes") == [] else ()
        for name in theirs:
            if name in on_purpose or name in unknown:
                continue
            if name in ours:
                yield from _compared(ours[name], theirs[name], f"{where}.{name}", on_purpose)
            else:
                yield f"{where}.{name}: missing, vLLM has {_short(theirs[name])}"
    elif isinstance(theirs, list) and isinstance(ours, list):
        if len(ours) != len(theirs):
            yield f"{where}: {len(ours)} of them, vLLM {len(theirs)}: {_short(ours)} / {_short(theirs)}"
        for index, (our, their) in enumerate(zip(ours, theirs, strict=False)):
            yield from _compared(our, their, f"{where}[{index}]", on_purpose)
    elif isinstance(theirs, float) and isinstance(ours, float):
        if not math.isclose(ours, theirs, rel_tol=0, abs_tol=TOLERANCE):
            yield f"{where}: {ours}, vLLM {theirs}"
    elif ours != theirs:
        yield f"{where}: {_short(ours)}, vLLM {_short(theirs)}"


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:160]
