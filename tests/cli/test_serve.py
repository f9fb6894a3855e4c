"""`gemcut serve`: what keeps it from starting, told before or while the model loads."""

import logging
import socket

import pytest


@pytest.fixture(autouse=True)
def restored_logs():
    """Logging as it was: the command sets it up for its process."""
    loggers = [logging.getLogger(name) for name in ("gemcut", "gemcut.serve", "uvicorn")]
    states = [(logger.level, logger.propagate, logger.handlers) for logger in loggers]
    yield
    for logger, (level, propagate, handlers) in zip(loggers, states, strict=True):
        logger.setLevel(level)
        logger.propagate, logger.handlers = propagate, handlers


@pytest.fixture
def folder(write_tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path / "cache"))
    return str(write_tiny_model(tmp_path / "tiny", max_position_embeddings=2000))


def test_a_port_that_is_taken(invoke, folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = invoke("serve", folder, "--port", port)
    assert result.exit_code == 1
    assert result.stderr == (
        f"gemcut: --host 127.0.0.1 --port {port}: cannot listen there (Address already in use). "
        "Stop what does, or give another --port.\n"
    )


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        pytest.param(["--host", "0.0.0.0"], 2, "Give --api-key KEY", id="no-key"),
        pytest.param(["--host", "no.such.host.invalid"], 2, "Give --api-key KEY", id="host"),
        pytest.param(["--host", "no.such.host.invalid", "--no-auth"], 1, "an address of this machine", id="unknown"),
        pytest.param(["--adapter", "nameless"], 2, "expected NAME=PATH", id="adapter"),
        pytest.param(["--api-key", ""], 2, "--api-key is empty", id="empty-key"),
    ],
)
def test_what_cannot_start(invoke, folder, options, code, said):
    result = invoke("serve", folder, "--port", "0", *options)
    assert result.exit_code == code
    assert said in result.stderr


@pytest.mark.native
@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        pytest.param(["--context", "9999"], 2, "expected 1 to 2000", id="context"),
        pytest.param(["--adapter", "a=missing"], 4, "missing", id="adapter"),
    ],
)
def test_what_cannot_load(invoke, folder, options, code, said):
    result = invoke("serve", folder, "--port", "0", "--threads", "1", *options)
    assert result.exit_code == code
    assert said in result.stderr
