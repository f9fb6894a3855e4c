"""Whatever fails, and wherever: the client gets an error of the one shape, the log a traceback, and others go on."""

import json

import pytest

pytestmark = pytest.mark.native

HELLO = {"prompt": "Hi", "max_tokens": 4}
LONG = {"prompt": "Hi", "max_tokens": 40, "ignore_eos": True}
INTERNAL = {
    "message": "The server failed; its log says why.",
    "type": "server_error",
    "param": None,
    "code": "internal_error",
}


class PanicError(BaseException):
    """As Rust libraries raise it: no Exception."""


def fails(error):
    def fail(*arguments, **options):
        raise error

    return fail


def traced(caplog, error):
    """Whether the log has the traceback of an error."""
    return any(record.exc_info and record.exc_info[1] is error for record in caplog.records)


@pytest.mark.parametrize("error", [RuntimeError("secret"), PanicError("secret"), MemoryError(), RecursionError()])
@pytest.mark.parametrize(
    "place",
    [
        "gemcut.serve.completions.parse",  # in the endpoint
        "gemcut.serve.completions._prompts",  # in another thread
        "gemcut.serve.asked_constraints._of_structured",
        "gemcut.serve.server.Server.submit",
        "gemcut.serve.engine_thread._add_all",  # in the engine's thread
        "gemcut.serve.completions.CompletionChoice.push",
        "gemcut.serve.gate.KeyCheck._known",  # around the application's own handlers
        "gemcut.serve.gate.check_caller",
        "gemcut.serve.errors.field_of",  # while another error is described
        "gemcut.serve.answers.new_id",
    ],
)
def test_an_unexpected_error_is_an_answer_of_the_one_shape(start, monkeypatch, caplog, place, error):
    with start(api_keys=("k",)) as server:
        server.client.headers["Authorization"] = "Bearer k"
        asked = {"logit_bias": {"9999": 1}} if "field_of" in place else {}
        with monkeypatch.context() as patches:
            patches.setattr(place, fails(error))
            response = server.complete(**asked)
        assert (response.status_code, response.headers["content-type"]) == (500, "application/json")
        assert response.json() == {"error": INTERNAL}
        server.until(lambda: traced(caplog, error))
        assert server.complete().status_code == 200
        server.until(lambda: server.server.num_working == 0)


@pytest.mark.parametrize("error", [RuntimeError("secret"), PanicError("secret")])
def test_an_unexpected_error_in_a_stream_is_its_last_event(start, monkeypatch, caplog, error):
    with start() as server:
        with monkeypatch.context() as patches:
            patches.setattr("gemcut.serve.completions.CompletionChoice.push", fails(error))
            events = server.events("/v1/completions", **HELLO)
        assert events == [{"error": INTERNAL}]
        server.until(lambda: traced(caplog, error))
        server.until(lambda: server.metric("gemcut_errors_total") == 1)
        server.until(lambda: server.metric("gemcut_texts_running") == 0)


@pytest.mark.parametrize("stream", [True, False])
def test_an_update_that_cannot_be_told_ends_its_request_alone(start, monkeypatch, caplog, stream):
    with start() as server:
        with monkeypatch.context() as patches:
            patches.setattr("gemcut.serve.metrics.Metrics.first_token", fails(error := RuntimeError("secret")))
            if stream:
                found = server.events("/v1/completions", **LONG)[-1]["error"]
            else:
                response = server.complete(**LONG)
                assert response.status_code == 500
                found = response.json()["error"]
        assert (found["message"], found["code"]) == (INTERNAL["message"], "engine_error")
        server.until(lambda: traced(caplog, error))
        assert server.complete().status_code == 200


@pytest.mark.parametrize("method", ["allowed", "forced", "push"])
def test_a_constraint_that_panics_ends_its_text_alone(start, monkeypatch, method):
    with start() as server:
        with monkeypatch.context() as patches:
            patches.setattr(f"gemcut.generate.constraints.GrammarConstraint.{method}", fails(PanicError("oh")))
            response = server.complete(regex="[ab]{9}")
        assert response.status_code == 500
        assert response.json()["error"]["message"] == "constraint: it failed (oh)."
        assert server.complete(regex="[ab]{9}").status_code == 200


def test_a_request_that_the_end_of_the_server_meets_is_told_so(start, monkeypatch):
    """Half a body has come when the time to drain is over: the request is cancelled, and still answered."""
    monkeypatch.setattr("gemcut.serve.process._CLOSE_SECONDS", 0)
    with start(drain_seconds=0.05) as server, server.connect() as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        server.until(lambda: server.server.num_working == 1)
        server.stop()
        status, headers, body = server.read_all(connection)
        assert (status, json.loads(body)["error"]["code"]) == (503, "draining")
        assert headers["retry-after"] == "1"
        server.join()
        assert server.num_lost == 1
