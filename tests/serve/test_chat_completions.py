"""POST /v1/chat/completions: the shape of whole and streamed answers, and every field's effect."""

import json

import pytest

pytestmark = pytest.mark.native

GREEDY = {"temperature": 0, "seed": 1}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"enum": [1, 2]}},
            "required": ["city", "days"],
        },
    },
}


def gathered(events, index=0):
    """Content, tool calls and finish reason that a stream's chunks add up to."""
    content, calls, reason = "", [], None
    for event in events:
        for choice in event["choices"]:
            if choice["index"] != index:
                continue
            content += choice["delta"].get("content") or ""
            for part in choice["delta"].get("tool_calls", ()):
                if "id" in part:
                    calls.append({"id": part["id"], "type": part["type"], "function": {**part["function"]}})
                else:
                    calls[part["index"]]["function"]["arguments"] += part["function"]["arguments"]
            reason = choice["finish_reason"] or reason
    return content, calls, reason


def test_a_whole_answer_has_every_field(served):
    answer = served.chat(**GREEDY).json()
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "tiny"
    assert answer["system_fingerprint"].startswith("fp_")
    (choice,) = answer["choices"]
    assert choice["message"].keys() == {"role", "content", "refusal"}
    assert (choice["index"], choice["finish_reason"], choice["stop_reason"]) == (0, "length", None)
    usage = answer["usage"]
    assert usage["completion_tokens"] == 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + 8
    assert usage["prompt_tokens_details"]["cached_tokens"] >= 0


def test_a_stream_adds_up_to_the_whole(served):
    body = {
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 24,
        "stream_options": {"include_usage": True},
    }
    events = served.events("/v1/chat/completions", **body, **GREEDY)
    whole = served.chat(max_tokens=24, **GREEDY).json()
    first, *_, last, usage = events
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert last["choices"][0]["delta"] == {}
    assert gathered(events) == (whole["choices"][0]["message"]["content"], [], "length")
    assert usage["choices"] == []
    assert usage["usage"] | {"prompt_tokens_details": None} == whole["usage"] | {"prompt_tokens_details": None}
    assert usage["timings"].keys() == {
        "prompt_tokens_per_second", "tokens_per_second", "time_to_first_token_seconds",
    }  # fmt: skip
    assert len({event["id"] for event in events}) == 1
    assert {event["object"] for event in events} == {"chat.completion.chunk"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_n_samples_have_their_own_index(served, stream):
    fields = {"n": 3, "seed": 5, "temperature": 1.5, "max_tokens": 6}
    if stream:
        events = served.events("/v1/chat/completions", messages=[{"role": "user", "content": "Hi"}], **fields)
        texts = [gathered(events, index)[0] for index in range(3)]
    else:
        choices = served.chat(**fields).json()["choices"]
        assert [choice["index"] for choice in choices] == [0, 1, 2]
        texts = [choice["message"]["content"] for choice in choices]
    assert len(set(texts)) == 3
    alone = served.chat(**fields | {"n": 1}).json()["choices"][0]["message"]["content"]
    assert texts[0] == alone


def test_logprobs_name_tokens_bytes_and_alternatives(served):
    entries = served.chat(logprobs=True, top_logprobs=3, max_tokens=5, **GREEDY).json()["choices"][0]["logprobs"]
    assert entries["refusal"] is None
    assert len(entries["content"]) == 5
    for entry in entries["content"]:
        assert entry.keys() == {"token", "logprob", "bytes", "top_logprobs"}
        assert bytes(entry["bytes"]).decode("utf-8", "replace") == entry["token"]
        assert entry["top_logprobs"][0]["logprob"] == pytest.approx(entry["logprob"], abs=1e-5)  # greedy
        assert len(entry["top_logprobs"]) == 3


def test_streamed_logprobs_add_up_to_the_whole(served):
    fields = {"logprobs": True, "max_tokens": 7, **GREEDY}
    events = served.events("/v1/chat/completions", messages=[{"role": "user", "content": "Hi"}], **fields)
    parts = [choice["logprobs"]["content"] for event in events for choice in event["choices"] if choice["logprobs"]]
    assert sum(parts, []) == served.chat(**fields).json()["choices"][0]["logprobs"]["content"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"regex": "abcdef", "stop": "cd"}, ("ab", "stop", "cd"), id="stop-string"),
        pytest.param({"regex": "abcdef", "stop": ["x", "de"]}, ("abc", "stop", "de"), id="stop-list"),
        pytest.param(
            {"regex": "abcdef", "stop": "cd", "include_stop_str_in_output": True}, ("abcd", "stop", "cd"), id="shown"
        ),
        pytest.param({"regex": "abcdef"}, ("abcdef", "stop", None), id="regex"),
        pytest.param({"grammar": 'start: "x" "y"+ "z"', "max_tokens": 2}, ("xy", "length", None), id="lark"),
        pytest.param({"structured_outputs": {"choice": ["yes"]}}, ("yes", "stop", None), id="choice"),
        pytest.param({"structured_outputs": {"regex": "ab"}}, ("ab", "stop", None), id="structured-regex"),
    ],
)
def test_endings(served, fields, expected):
    choice = served.chat(**{"max_tokens": 20, **GREEDY} | fields).json()["choices"][0]
    found = choice["message"]["content"], choice["finish_reason"], choice["stop_reason"]
    if fields.get("max_tokens") == 2:  # how many letters two tokens are, the vocabulary says
        assert "xyyyyyyyz".startswith(found[0])
        assert found[1:] == expected[1:]
    else:
        assert found == expected


def test_json_schema_and_object(served):
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}, "b": {"const": "é"}}, "required": ["a", "b"],
              "additionalProperties": False}  # fmt: skip
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    answer = served.chat(response_format=wanted, max_tokens=60, **GREEDY).json()["choices"][0]
    assert json.loads(answer["message"]["content"])["b"] == "é"
    assert answer["finish_reason"] == "stop"
    text = served.chat(response_format={"type": "json_object"}, max_tokens=6).json()["choices"][0]["message"]["content"]
    assert text.startswith("{")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "choice",
    [
        pytest.param("required", id="required"),
        pytest.param({"type": "function", "function": {"name": "get_weather"}}, id="named"),
    ],
)
def test_tool_calls(served, choice, stream):
    fields = {"tools": [TOOL], "tool_choice": choice, "parallel_tool_calls": False, "max_tokens": 200, **GREEDY}
    if stream:
        events = served.events("/v1/chat/completions", messages=[{"role": "user", "content": "Hi"}], **fields)
        content, (call,), reason = gathered(events)
    else:
        answer = served.chat(**fields).json()["choices"][0]
        content, (call,), reason = (
            answer["message"]["content"],
            answer["message"]["tool_calls"],
            answer["finish_reason"],
        )
    assert not content
    assert reason == "tool_calls"
    assert call["id"].startswith("call_")
    assert call["function"]["name"] == "get_weather"
    arguments = json.loads(call["function"]["arguments"])
    assert arguments["city"] in ("Paris", "Rome")
    assert arguments["days"] in (1, 2)


def test_results_of_tools_go_back(served):
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    response = served.client.post("/v1/chat/completions", json={"messages": messages, "tools": [TOOL], "max_tokens": 2})
    assert response.status_code == 200, response.text


def test_a_final_message_goes_on(served, tiny):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "It is "}]
    body = {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    prompt = served.client.post("/tokenize", json=body).json()["tokens"]
    assert tiny.tokenizer.decode(prompt).endswith("It is ")
    assert tiny.tokenizer.decode(prompt, skip_special=False).count("<end_of_turn>") == 1


def test_sampling_fields_reach_the_model(served, tiny):
    ids = served.complete(prompt="Hi", max_tokens=4, return_token_ids=True, **GREEDY).json()["choices"][0]["token_ids"]
    banned = served.complete(
        prompt="Hi", max_tokens=4, return_token_ids=True, logit_bias={str(token_id): -100 for token_id in ids}, **GREEDY
    ).json()["choices"][0]["token_ids"]
    assert set(ids).isdisjoint(banned)
    fields = {"temperature": 3.0, "top_k": 1, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.0, "seed": 3}
    cut = served.complete(prompt="Hi", max_tokens=4, return_token_ids=True, **fields).json()["choices"][0]["token_ids"]
    assert cut == ids


def test_min_tokens_and_ignore_eos(served, tiny):
    stop = {"logit_bias": {str(tiny.stop_token_ids[0]): 100}, "max_tokens": 5, **GREEDY}
    assert served.chat(**stop).json()["usage"]["completion_tokens"] == 1
    assert served.chat(min_tokens=3, **stop).json()["usage"]["completion_tokens"] == 4
    ignoring = served.chat(ignore_eos=True, **stop).json()
    assert ignoring["usage"]["completion_tokens"] == 5
    assert ignoring["choices"][0]["finish_reason"] == "length"


def test_a_stop_id_of_the_request_is_the_stop_reason(served):
    ids = served.complete(max_tokens=3, return_token_ids=True, **GREEDY).json()["choices"][0]["token_ids"]
    choice = served.complete(max_tokens=3, stop_token_ids=[ids[-1]], **GREEDY).json()["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", ids[-1])


def test_an_old_conversation_is_not_computed_again(served):
    turns = [{"role": "user", "content": "word " * 60}]
    fields = {"max_tokens": 4, "ignore_eos": True, **GREEDY}
    first = served.client.post("/v1/chat/completions", json={"messages": turns, **fields}).json()
    turns += [first["choices"][0]["message"], {"role": "user", "content": "More."}]
    second = served.client.post("/v1/chat/completions", json={"messages": turns, **fields}).json()
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] >= 50
