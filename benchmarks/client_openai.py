"""Every documented call of the chat and completions pages of OpenAI's Python library, against the server at argv[1]."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any, Literal

import openai
from client_checks import Checks
from pydantic import BaseModel

MODEL = "starter"
HELLO: list[Any] = [{"role": "user", "content": "Name a colour."}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
Works = Callable[[str, Callable[[], Any]], Any]
NAMED: Any = {"type": "function", "function": {"name": "weather"}}
SCHEMA: Any = TOOL["function"]["parameters"]


class Weather(BaseModel):
    """What `parse` is to make of an answer."""

    city: Literal["Rome", "Oslo"]
    is_warm: bool


def main() -> None:
    """Make the calls and tell what came of them."""
    url, key = sys.argv[1], sys.argv[2]
    client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
    checks = Checks()
    for part in (chats, streams, structured, tools, completions):
        part(checks.works, client)
    errors(checks, client, url)
    checks.works("AsyncOpenAI, five at once", lambda: asyncio.run(at_once(url, key)))
    checks.tell()


def chats(works: Works, client: openai.OpenAI) -> None:
    """Plain chats."""

    def chat(**options: Any) -> Any:
        return client.chat.completions.create(**{"model": MODEL, "messages": HELLO, "max_tokens": 8} | options)

    works("models.list", lambda: [model.id for model in client.models.list()])
    works("models.retrieve", lambda: client.models.retrieve(MODEL).id == MODEL)
    works("chat", lambda: chat().choices[0].message.role == "assistant")
    works("usage adds up", lambda: (u := chat().usage).total_tokens == u.prompt_tokens + u.completion_tokens)
    works("max_completion_tokens", lambda: chat(max_tokens=None, max_completion_tokens=3).usage.completion_tokens <= 3)
    works("n", lambda: [choice.index for choice in chat(n=3, temperature=1.0).choices] == [0, 1, 2])
    works("seed", lambda: len({chat(seed=5, temperature=1.0).choices[0].message.content for _ in range(3)}) == 1)
    works("stop", lambda: " " not in chat(stop=" ", max_tokens=20, temperature=0).choices[0].message.content)
    works("stop, several", lambda: chat(stop=["e", "a", "o", "i"], max_tokens=60).choices[0].finish_reason == "stop")
    works("finish_reason length", lambda: chat(max_tokens=1).choices[0].finish_reason in ("length", "stop"))
    works(
        "logprobs",
        lambda: all(
            token.logprob <= 0 and len(token.top_logprobs) == 3 and token.bytes is not None
            for token in chat(logprobs=True, top_logprobs=3).choices[0].logprobs.content
        ),
    )
    works(
        "logit_bias", lambda: chat(logit_bias={"236776": 100}, temperature=0, max_tokens=3).choices[0].message.content
    )
    works("penalties", lambda: chat(presence_penalty=1.0, frequency_penalty=0.5).id.startswith("chatcmpl-"))
    works("system and developer", lambda: chat(messages=[{"role": "developer", "content": "Be brief."}, *HELLO]).id)
    works("text parts", lambda: chat(messages=[{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]).id)
    harmless = {"user": "u", "metadata": {"a": "b"}, "service_tier": "auto", "store": False, "verbosity": "low"}
    works("fields that change nothing", lambda: chat(**harmless, reasoning_effort="low", safety_identifier="x").id)
    works("extensions", lambda: chat(extra_body={"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1}).id)
    regex = {"regex": "(red|blue)"}
    works("regex", lambda: chat(extra_body=regex).choices[0].message.content in ("red", "blue"))
    grammar = {"grammar": 'start: "yes" | "no"'}
    works("grammar", lambda: chat(extra_body=grammar).choices[0].message.content in ("yes", "no"))
    raw = client.chat.completions.with_raw_response
    works("request id", lambda: raw.create(model=MODEL, messages=HELLO, max_tokens=1).headers["x-request-id"])


def streams(works: Works, client: openai.OpenAI) -> None:
    """Streams say the same as the answers they replace."""

    def both(**options: Any) -> bool:
        options = {"model": MODEL, "messages": HELLO, "max_tokens": 12, "temperature": 0} | options
        whole = client.chat.completions.create(**options)
        chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
        texts = dict.fromkeys(range(len(whole.choices)), "")
        reasons: dict[int, Any] = {}
        for chunk in chunks:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                reasons[choice.index] = choice.finish_reason or reasons.get(choice.index)
        return (
            [choice.message.content for choice in whole.choices] == list(texts.values())
            and {choice.index: choice.finish_reason for choice in whole.choices} == reasons
            and not chunks[-1].choices
            and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
            and len({chunk.id for chunk in chunks}) == 1
        )

    works("stream", both)
    works("stream, n", lambda: both(n=2, seed=3, temperature=1.0))
    works("stream, logprobs", lambda: both(logprobs=True, top_logprobs=1))

    def helper() -> Any:
        # The library takes an answer that ended for its length for an error.
        with client.chat.completions.stream(model=MODEL, messages=HELLO, stop=["e", "a", "o"]) as stream:
            kinds = {event.type for event in stream}
            return "content.delta" in kinds and stream.get_final_completion().choices[0].message.content

    works("chat.completions.stream", helper)

    def left() -> bool:
        with client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=200, stream=True) as stream:
            next(iter(stream))
        return True

    works("a stream that is left", left)


def structured(works: Works, client: openai.OpenAI) -> None:
    """Answers of a given form."""

    def content(**options: Any) -> str:
        answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=80, temperature=0, **options)
        return answer.choices[0].message.content

    schema = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True}}
    works("json_schema", lambda: set(json.loads(content(response_format=schema))) == {"city", "days"})
    works("json_object", lambda: content(response_format={"type": "json_object"}).startswith("{"))
    works("response_format text", lambda: content(response_format={"type": "text"}))
    works(
        "parse",
        lambda: client.chat.completions.parse(model=MODEL, messages=HELLO, max_tokens=60, response_format=Weather)
        .choices[0].message.parsed.city
        in ("Rome", "Oslo"),
    )  # fmt: skip


def tools(works: Works, client: openai.OpenAI) -> None:
    """Tools called, in whole answers and in streams, and their results given back."""

    def chat(**options: Any) -> Any:
        return client.chat.completions.create(
            **{"model": MODEL, "messages": HELLO, "max_tokens": 100, "tools": [TOOL], "temperature": 0} | options
        )

    def valid(arguments: str) -> bool:
        return set(json.loads(arguments)) == {"city", "days"}

    def called(choice: Any) -> Any:
        answer = chat(tool_choice=choice, parallel_tool_calls=False).choices[0]
        call = answer.message.tool_calls[0]
        return call.id and call.function.name == "weather" and valid(call.function.arguments) and answer.finish_reason

    works("tool_choice required", lambda: called("required"))
    works("tool_choice by name", lambda: called(NAMED))
    works("tool_choice auto", lambda: chat(tool_choice="auto", max_tokens=20).id)
    works("tool_choice none", lambda: chat(tool_choice="none", max_tokens=20).choices[0].message.tool_calls is None)

    def streamed() -> Any:
        arguments, names = "", []
        for chunk in chat(tool_choice="required", parallel_tool_calls=False, stream=True):
            for call in chunk.choices[0].delta.tool_calls or ():
                arguments += call.function.arguments or ""
                names += [call.function.name] if call.function.name else []
        return names == ["weather"] and valid(arguments)

    works("tools in a stream", streamed)
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city":"Rome","days":1}'},
    }
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    works("a tool's result", lambda: chat(messages=messages, max_tokens=8).id)


def completions(works: Works, client: openai.OpenAI) -> None:
    """The older page: texts that go on."""

    def go_on(prompt: Any = "The sky is", **options: Any) -> Any:
        return client.completions.create(
            **{"model": MODEL, "prompt": prompt, "max_tokens": 5, "temperature": 0} | options
        )

    works("completions", lambda: go_on().choices[0].text)
    works("completions, several prompts", lambda: len(go_on(["One", "Two"]).choices) == 2)
    works("completions, token ids", lambda: go_on([2, 818, 5279]).choices[0].text)
    works("completions, lists of token ids", lambda: len(go_on([[2, 818], [2, 5279]]).choices) == 2)
    works("completions, echo", lambda: go_on(echo=True).choices[0].text.startswith("The sky is"))
    works("completions, logprobs", lambda: len(go_on(logprobs=2).choices[0].logprobs.token_logprobs) == 5)
    works(
        "completions, echo and logprobs", lambda: go_on(echo=True, logprobs=0, max_tokens=0).choices[0].logprobs.tokens
    )
    works("completions, n", lambda: len(go_on(n=2, temperature=1.0).choices) == 2)
    works(
        "completions, stream", lambda: "".join(c.choices[0].text for c in go_on(stream=True)) == go_on().choices[0].text
    )
    for name, value in (("best_of", 2), ("suffix", ".")):
        works(f"completions, {name}", lambda name=name, value=value: done_or_refused(go_on, name, value))


def done_or_refused(call: Any, name: str, value: Any) -> str:
    """An answer, or a refusal that names the field."""
    try:
        return call(**{name: value}).choices[0].text
    except openai.BadRequestError as error:
        return str(error) if name in str(error) else ""


def errors(checks: Checks, client: openai.OpenAI, url: str) -> None:
    """What cannot be done is said clearly."""
    create = client.chat.completions.create
    bad = openai.BadRequestError
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://localhost/a.png"}}]}]
    long = [{"role": "user", "content": "word " * 30_000}]
    schema = {"name": "x", "schema": {"type": "no"}}
    for name, word, options in (
        ("temperature", "temperature", {"temperature": 500}),
        ("n", "n", {"n": 0}),
        ("an image", "text only", {"messages": image}),
        ("audio", "audio", {"audio": {"format": "wav", "voice": "alloy"}, "modalities": ["text", "audio"]}),
        ("web search", "web_search_options", {"web_search_options": {}}),
        ("functions", "functions", {"functions": [TOOL["function"]]}),
        ("function_call", "function_call", {"function_call": "auto"}),
        ("store", "store", {"store": True}),
        ("a prompt over the context", "context", {"messages": long}),
        ("a bad schema", "", {"response_format": {"type": "json_schema", "json_schema": schema}}),
    ):  # fmt: skip
        request = {"model": MODEL, "messages": HELLO, "max_tokens": 4} | options
        checks.refused(f"400: {name}", bad, lambda request=request: create(**request), word)
    checks.refused("404: model", openai.NotFoundError, lambda: create(model="none", messages=HELLO), "none")
    checks.refused("404: embeddings", openai.NotFoundError, lambda: client.embeddings.create(model=MODEL, input="a"))
    checks.refused("404: responses", openai.NotFoundError, lambda: client.responses.create(model=MODEL, input="a"))
    stored = client.chat.completions
    checks.refused("400: a stored chat", bad, lambda: stored.retrieve("chatcmpl-1"), "stores")
    checks.refused("400: stored chats", bad, lambda: stored.list().data, "stores")
    checks.refused("400: change of a stored chat", bad, lambda: stored.update("chatcmpl-1", metadata={}), "stores")
    checks.refused("400: delete a stored chat", bad, lambda: stored.delete("chatcmpl-1"), "stores")
    checks.refused("400: messages of a stored chat", bad, lambda: stored.messages.list("chatcmpl-1").data, "stores")
    stranger = openai.OpenAI(base_url=url, api_key="wrong", max_retries=0)
    checks.refused("401: key", openai.AuthenticationError, lambda: stranger.models.list(), "key")
    checks.refused(
        "401: key, 10 MB",
        openai.AuthenticationError,
        lambda: stranger.completions.create(model=MODEL, prompt="x" * 10_000_000),
        "key",
    )


async def at_once(url: str, key: str) -> bool:
    """Five requests of the asynchronous client together."""
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
        options: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 8, "temperature": 0}
        answers = await asyncio.gather(*(client.chat.completions.create(**options) for _ in range(5)))
    return len({answer.choices[0].message.content for answer in answers}) == 1


if __name__ == "__main__":
    main()
