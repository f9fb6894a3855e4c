"""The real `openai` library, unmodified."""

import json

import pytest

pytestmark = pytest.mark.native

openai = pytest.importorskip("openai", reason="the client comes with the dev extra")
MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def client(served):
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_chat(client):
    answer = client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=5, logprobs=True, top_logprobs=2
    )
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert len(choice.logprobs.content) == answer.usage.completion_tokens == 5
    assert len(choice.logprobs.content[0].top_logprobs) == 2
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def test_streamed_chat(client):
    stream = client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=9, stream=True, seed=3, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 9)


def test_stream_helper_with_tools(client):
    tool = {
        "type": "function",
        "function": {
            "name": "f",
            "strict": True,
            "parameters": {
                "type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False,
            },
        },
    }  # fmt: skip
    with client.chat.completions.stream(
        model="tiny", messages=MESSAGES, tools=[tool], tool_choice="required", parallel_tool_calls=False, max_tokens=90
    ) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion().choices[0]
    assert json.loads(final.message.tool_calls[0].function.arguments)["a"] in (1, 2)
    assert [event.name for event in done] == ["f"]


def test_parse_gives_the_model_of_the_schema(client):
    import pydantic

    class Answer(pydantic.BaseModel):
        colour: str = pydantic.Field(pattern="^(red|blue)$")
        count: int = pydantic.Field(ge=1, le=3)

    parsed = client.chat.completions.parse(model="tiny", messages=MESSAGES, response_format=Answer, max_tokens=60)
    answer = parsed.choices[0].message.parsed
    assert answer.colour in ("red", "blue")
    assert answer.count in (1, 2, 3)


def test_completions(client):
    answer = client.completions.create(model="tiny", prompt=["a", "b"], max_tokens=4, logprobs=1, echo=True, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].logprobs.token_logprobs[0] is None
    text = "".join(
        chunk.choices[0].text
        for chunk in client.completions.create(model="tiny", prompt="a", max_tokens=4, temperature=0, stream=True)
    )
    whole = client.completions.create(model="tiny", prompt="a", max_tokens=4, temperature=0)
    assert text == whole.choices[0].text


def test_models(client):
    assert [model.id for model in client.models.list()] == ["tiny", "tiny+odd"]
    assert client.models.retrieve("tiny+odd").owned_by == "gemcut"


@pytest.mark.parametrize(
    ("call", "error", "code"),
    [
        pytest.param(
            lambda client: client.chat.completions.create(model="no", messages=MESSAGES),
            openai.NotFoundError, "model_not_found", id="model",
        ),
        pytest.param(
            lambda client: client.chat.completions.create(model="tiny", messages=MESSAGES, temperature=-1),
            openai.BadRequestError, "invalid_value", id="value",
        ),
        pytest.param(
            lambda client: client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=99999),
            openai.BadRequestError, "context_length_exceeded", id="context",
        ),
        pytest.param(
            lambda client: client.chat.completions.create(model="tiny", messages=MESSAGES, store=True),
            openai.BadRequestError, "unsupported_parameter", id="store",
        ),
        pytest.param(
            lambda client: client.chat.completions.list(), openai.BadRequestError, "unsupported_parameter", id="list"
        ),
        pytest.param(
            lambda client: client.chat.completions.retrieve("chatcmpl-1"),
            openai.BadRequestError, "unsupported_parameter", id="retrieve",
        ),
        pytest.param(
            lambda client: client.chat.completions.delete("chatcmpl-1"),
            openai.BadRequestError, "unsupported_parameter", id="delete",
        ),
    ],
)  # fmt: skip
def test_errors_have_their_classes(client, call, error, code):
    with pytest.raises(error) as caught:
        call(client)
    assert caught.value.code == code


def test_an_error_in_a_stream_is_raised(start, monkeypatch):
    with start() as server:
        runner = server.server.opened().find(None).scheduler._runner
        monkeypatch.setattr(runner, "run", lambda *_: [][1])
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any") as client:
            stream = client.chat.completions.create(model="tiny", messages=MESSAGES, stream=True)
            with pytest.raises(openai.APIError, match="The engine failed"):
                list(stream)


def test_a_refused_key(start):
    with start(api_keys=("right",)) as server:
        for key, is_right in (("wrong", False), ("right", True)):
            with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key) as client:
                if is_right:
                    assert client.models.list().data
                else:
                    with pytest.raises(openai.AuthenticationError, match="no valid key"):
                        client.models.list()
