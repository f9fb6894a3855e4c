"""What is refused: a 4xx of the one shape that names the field, whatever the request."""

import json
import logging
import socket

import pytest

pytestmark = pytest.mark.native

MESSAGES = [{"role": "user", "content": "Hi"}]


def refused(response, status=400):
    """The error of a refused request, in the one shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert len(response.content) < 2000
    body = response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    return body["error"]


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        pytest.param({"messages": None}, "messages", "expected a valid list", id="messages-null"),
        pytest.param({"messages": []}, "messages", "at least 1 item", id="messages-empty"),
        pytest.param({"messages": "Hi"}, "messages", "found 'Hi'; expected a valid list", id="messages-text"),
        pytest.param({"messages": [{"role": "boss", "content": "Hi"}]}, "messages[0].role", "'boss'", id="role"),
        pytest.param({"messages": [{"content": "Hi"}]}, "messages[0].role", "it is missing", id="no-role"),
        pytest.param({"messages": [{"role": "user", "content": 3}]}, "messages[0].content", "found 3", id="content"),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
            "messages[0].content", "this model reads text only", id="image",
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content", "text", id="no-text"
        ),
        pytest.param({"messages": [{"role": "assistant", "content": "Hi"}] * 2}, None, "template", id="turns"),
        pytest.param({"temperature": -1}, "temperature", "greater than or equal to 0", id="temperature-negative"),
        pytest.param({"temperature": "hot"}, "temperature", "valid number", id="temperature-text"),
        pytest.param({"temperature": True}, "temperature", "valid number", id="temperature-bool"),
        pytest.param({"top_p": 0}, "top_p", "greater than 0", id="top-p-zero"),
        pytest.param({"top_p": 1.5}, "top_p", "less than or equal to 1", id="top-p"),
        pytest.param({"top_k": -2}, "top_k", "found -2", id="top-k"),
        pytest.param({"min_p": 1}, "min_p", "less than 1", id="min-p"),
        pytest.param({"presence_penalty": 3}, "presence_penalty", "less than or equal to 2", id="presence"),
        pytest.param({"n": 0}, "n", "greater than or equal to 1", id="n-zero"),
        pytest.param({"n": 129}, "n", "less than or equal to 128", id="n-huge"),
        pytest.param({"n": 10**30}, "n", "found 1", id="n-astronomic"),
        pytest.param({"n": 1.5}, "n", "valid integer", id="n-fraction"),
        pytest.param({"max_tokens": 0}, "max_tokens", "greater than or equal to 1", id="no-tokens"),
        pytest.param({"max_tokens": -1}, "max_tokens", "greater than or equal to 1", id="negative-tokens"),
        pytest.param({"max_completion_tokens": "9"}, "max_completion_tokens", "valid integer", id="tokens-text"),
        pytest.param({"seed": 1 << 64}, "seed", "less than", id="seed"),
        pytest.param({"stop": ""}, "stop[0]", "at least 1 character", id="stop-empty"),
        pytest.param({"stop": ["a"] * 17}, "stop", "at most 16 items", id="stops"),
        pytest.param({"stop": {"a": 1}}, "stop", "valid list", id="stop-object"),
        pytest.param({"stop_token_ids": [-1]}, "stop_token_ids[0]", "greater than or equal to 0", id="stop-id"),
        pytest.param({"stop_token_ids": [70000]}, "stop_token_ids", "not a token id", id="stop-id-high"),
        pytest.param({"logit_bias": {"5": 101}}, "logit_bias.5", "less than or equal to 100", id="bias"),
        pytest.param({"logit_bias": {"x": 1}}, "logit_bias", "found 'x', expected a token id", id="bias-key"),
        pytest.param({"logit_bias": {"99999": 1}}, "logit_bias", "not a token id", id="bias-id"),
        pytest.param({"logprobs": 3}, "logprobs", "valid boolean", id="logprobs"),
        pytest.param({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "equal to 20", id="top-logprobs"),
        pytest.param({"top_logprobs": 2}, "top_logprobs", "logprobs is not true", id="top-alone"),
        pytest.param({"stream_options": {}}, "stream_options", "stream is not true", id="stream-options"),
        pytest.param({"stream": "yes"}, "stream", "valid boolean", id="stream-text"),
        pytest.param({"response_format": {"type": "xml"}}, "response_format.type", "'xml'", id="format"),
        pytest.param({"response_format": {"type": "json_schema"}}, "response_format", "json_schema is missing", id="schema"),
        pytest.param(
            {"response_format": {"type": "json_object"}, "regex": "a"}, "response_format", "do not go together", id="two"
        ),
        pytest.param({"regex": "(a"}, "regex", "regex", id="regex"),
        pytest.param({"grammar": "nonsense ::= x"}, "grammar", "grammar", id="grammar"),
        pytest.param({"regex": "a", "ignore_eos": True}, "ignore_eos", "Leave it out", id="ignore-eos"),
        pytest.param({"min_tokens": 9, "max_tokens": 3}, "min_tokens", "0 to max_tokens", id="min-tokens"),
        pytest.param({"tools": [{"type": "browser"}]}, "tools[0]", "function", id="tool-type"),
        pytest.param({"tool_choice": "required"}, "tool_choice", "no tools", id="no-tools"),
        pytest.param({"tool_choice": "maybe"}, "tool_choice", "'maybe'", id="tool-choice"),
        pytest.param({"functions": [{"name": "f"}]}, "functions", "Use tools", id="functions"),
        pytest.param({"store": True}, "store", "stores nothing", id="store"),
        pytest.param({"audio": {"voice": "x"}}, "audio", "text only", id="audio"),
        pytest.param({"modalities": ["text", "audio"]}, "modalities[1]", "'audio'", id="modalities"),
        pytest.param({"truncate_prompt_tokens": 5}, "truncate_prompt_tokens", "silently", id="truncate"),
        pytest.param({"chat_template": "{{ 1 }}"}, "chat_template", "own chat template", id="template"),
        pytest.param(
            {"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages", "field of the request", id="kwargs"
        ),
        pytest.param(
            {"chat_template_kwargs": {"self": 1}}, "chat_template_kwargs.self", "no template can be given", id="self"
        ),
        pytest.param(
            {"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message", "Leave one", id="both"
        ),
        pytest.param({"model": 3}, "model", "valid string", id="model-number"),
    ],
)  # fmt: skip
def test_chat(served, fields, param, said):
    error = refused(served.client.post("/v1/chat/completions", json={"messages": MESSAGES, "max_tokens": 2} | fields))
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert said in error["message"]


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        pytest.param({"prompt": ""}, "prompt", "none of them empty", id="empty"),
        pytest.param({"prompt": []}, "prompt", "none of them empty", id="no-ids"),
        pytest.param({"prompt": [["a"]]}, "prompt", "list of token ids", id="mixed"),
        pytest.param({"prompt": [1, "a"]}, "prompt", "list of token ids", id="ids-and-text"),
        pytest.param({"prompt": [True]}, "prompt", "list of token ids", id="bools"),
        pytest.param({"prompt": {"a": 1}}, "prompt", "a text", id="object"),
        pytest.param({"prompt": ["a"] * 129}, "prompt", "at most 128 prompts", id="many"),
        pytest.param({"prompt": [5, -1]}, "prompt", "-1 is not a token id", id="negative-id"),
        pytest.param({"prompt": [5, 1 << 40]}, "prompt", "is not a token id", id="high-id"),
        pytest.param({"max_tokens": 0}, "max_tokens", "0 goes with echo", id="no-tokens"),
        pytest.param({"best_of": 3}, "best_of", "expected n, which is 1", id="best-of"),
        pytest.param({"suffix": "end"}, "suffix", "fill in the middle", id="suffix"),
        pytest.param({"logprobs": True}, "logprobs", "valid integer", id="logprobs"),
        pytest.param({"prompt": ["a", "b"], "n": 100}, "n", "asks for 200 texts", id="texts"),
    ],
)
def test_completions(served, fields, param, said):
    error = refused(served.client.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 2} | fields))
    assert error["param"] == param
    assert said in error["message"]


@pytest.mark.parametrize("max_tokens", [None, 5], ids=["any", "some"])
def test_a_prompt_over_the_context(served, max_tokens):
    error = refused(served.chat("word " * 2100, max_tokens=max_tokens))
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    error = refused(served.complete([5] * 1999, max_tokens=5))
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
    assert "the prompt has 1999 tokens and the answer 5, but the context is 2000 tokens" in error["message"]


def test_an_unknown_model_is_404(served):
    error = refused(served.chat(model="gpt-9"), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "expected one of tiny" in error["message"]
    assert refused(served.client.get("/v1/models/a/b%2Fc"), 404)["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"", "invalid_json", id="empty"),
        pytest.param(b"{", "invalid_json", id="cut"),
        pytest.param(b'{"messages": "\xff"}', "invalid_json", id="not-utf-8"),
        pytest.param(b'{"messages": "\\ud800"}', "invalid_json", id="lone-surrogate"),
        pytest.param(b'{"temperature": NaN}', "invalid_json", id="nan"),
        pytest.param(b'{"temperature": 1e999, "messages": [{"role": "user"}]}', "invalid_value", id="infinite"),
        pytest.param(b"[" * 5000, "invalid_json", id="deep-and-cut"),
        pytest.param(b'{"a":' * 150 + b"1" + b"}" * 150, "too_deep", id="deep"),
        pytest.param(b"[1, 2]", "invalid_value", id="list"),
        pytest.param(b'"text"', "invalid_value", id="text"),
        pytest.param(b"null", "invalid_value", id="null"),
    ],
)
def test_bodies_that_are_none(served, body, code):
    assert refused(served.client.post("/v1/chat/completions", content=body))["code"] == code


def test_a_long_body_is_413(start, served):
    body = json.dumps({"messages": [{"role": "user", "content": "x" * (4 << 20)}]}).encode()
    assert refused(served.client.post("/v1/chat/completions", content=body), 413)["code"] == "body_too_large"
    parts = (body[i : i + 65536] for i in range(0, len(body), 65536))  # in chunks, without a length
    assert refused(served.client.post("/v1/chat/completions", content=parts), 413)["code"] == "body_too_large"
    assert served.chat().status_code == 200  # on the same connection or a new one


def test_what_a_request_says_stays_short_in_its_error(served):
    error = refused(served.chat(temperature="x" * 100_000))
    assert len(error["message"]) < 300
    assert len(refused(served.chat(model="é" * 400), 404)["message"]) < 700


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("GET", "/nope", 404, "path_not_found", id="path"),
        pytest.param("POST", "/v1/completions/", 404, "path_not_found", id="slash"),
        pytest.param("GET", "/v1/completions", 405, "method_not_allowed", id="method"),
        pytest.param("GET", "/v1/chat/completions/chatcmpl-1", 400, "unsupported_parameter", id="stored"),
        pytest.param("DELETE", "/v1/models", 405, "method_not_allowed", id="delete"),
        pytest.param("POST", "/v1/embeddings", 404, "path_not_found", id="embeddings"),
        pytest.param("GET", "/page/..%2f..%2fetc%2fpasswd", 404, "path_not_found", id="traversal"),
        pytest.param("GET", "/page/%2e%2e/server.py", 404, "path_not_found", id="dots"),
    ],
)
def test_paths_and_methods(served, method, path, status, code):
    assert refused(served.client.request(method, path), status)["code"] == code


def test_unknown_fields_are_accepted_and_logged_once(served, caplog):
    with caplog.at_level(logging.WARNING, "gemcut.serve"):
        for _ in range(2):
            assert served.chat(reasoning_effort="low", odd_field=[1]).status_code == 200
    assert caplog.text.count("'odd_field'") == 1
    assert caplog.text.count("'reasoning_effort'") == 1


@pytest.mark.parametrize("value", [None, False, [], ""], ids=str)
def test_refused_fields_without_meaning_are_accepted(served, value):
    assert served.chat(functions=value, store=value, audio=value).status_code == 200


def test_null_is_as_left_out(served):
    from gemcut.serve.requests import ChatRequest

    nulls = dict.fromkeys(set(ChatRequest.model_fields) - {"messages"})
    assert served.chat(**nulls | {"max_tokens": 2}).status_code == 200


def test_a_body_that_does_not_come_is_408(start, monkeypatch):
    monkeypatch.setattr("gemcut.serve.bodies.MAX_BODY_SECONDS", 0.01)
    with start() as server:
        connection = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=20)
        with connection:
            connection.sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
            answer = connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 408 Request Timeout")
            assert b"\r\nconnection: close\r\n" in answer.lower()
