"""Every exception as status and body."""

import pytest

from gemcut.errors import BackendError, ContextLengthError, NotFoundError, QueueFullError, TemplateError, UsageError
from gemcut.serve.errors import MAX_MESSAGE, RequestError, describe, shown


@pytest.mark.parametrize(
    ("error", "status", "kind", "param", "code"),
    [
        pytest.param(UsageError("top_p is 3."), 400, "invalid_request_error", "top_p", "invalid_value", id="usage"),
        pytest.param(UsageError("tools[0]: bad"), 400, "invalid_request_error", "tools[0]", "invalid_value", id="index"),
        pytest.param(UsageError("No field here."), 400, "invalid_request_error", None, "invalid_value", id="no-field"),
        pytest.param(
            ContextLengthError("prompt: too long"), 400, "invalid_request_error", "prompt", "context_length_exceeded",
            id="context",
        ),
        pytest.param(TemplateError("refused"), 400, "invalid_request_error", None, "invalid_value", id="template"),
        pytest.param(NotFoundError("gone"), 404, "invalid_request_error", None, "not_found", id="missing"),
        pytest.param(QueueFullError("full"), 429, "rate_limit_error", None, "invalid_value", id="queue"),
        pytest.param(BackendError("no memory"), 500, "server_error", None, "engine_error", id="engine"),
        pytest.param(KeyError("secret"), 500, "server_error", None, "internal_error", id="fault"),
        pytest.param(RequestError("x", status=401, code="k"), 401, "authentication_error", None, "k", id="key"),
        pytest.param(RequestError("x", status=403, param="p"), 403, "permission_error", "p", "invalid_value", id="host"),
    ],
)  # fmt: skip
def test_describe(error, status, kind, param, code):
    found, body, _ = describe(error)
    assert found == status
    assert (body["error"]["type"], body["error"]["param"], body["error"]["code"]) == (kind, param, code)
    assert "secret" not in body["error"]["message"]


def test_messages_are_short_and_can_be_sent():
    _, body, _ = describe(UsageError("x" * 5000 + "\ud800"))
    assert len(body["error"]["message"]) == MAX_MESSAGE
    assert describe(UsageError("a \ud800"))[1]["error"]["message"] == "a ?"


def test_values_are_shown_in_part():
    assert shown("a'b") == '"a\'b"'
    assert len(shown("x" * 1000)) <= 80
    assert len(shown(list(range(1000)))) == 80
