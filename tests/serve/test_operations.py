"""Alive, ready, full, draining; what is measured and what is logged."""

import json
import logging
import re
import threading

import pytest

pytestmark = pytest.mark.native

LONG = {"prompt": "Hi", "max_tokens": 400, "ignore_eos": True}
METRICS = {
    "gemcut_cache_bytes gauge",
    "gemcut_cache_usage_ratio gauge",
    "gemcut_errors counter",
    "gemcut_generated_tokens counter",
    "gemcut_http_requests counter",
    "gemcut_inter_token_seconds histogram",
    "gemcut_prompt_tokens counter",
    "gemcut_ready gauge",
    "gemcut_request_seconds histogram",
    "gemcut_requests_cancelled counter",
    "gemcut_requests_rejected counter",
    "gemcut_reused_tokens counter",
    "gemcut_texts counter",
    "gemcut_texts_running gauge",
    "gemcut_texts_waiting gauge",
    "gemcut_time_to_first_token_seconds histogram",
}


def types_of(text, prefix):
    lines = re.findall(rf"^# TYPE ({prefix}\S+) (\w+)$", text, re.MULTILINE)
    return {f"{name.removesuffix('_total')} {kind}" for name, kind in lines}


def test_metric_names_are_a_contract(served):
    served.complete()
    text = served.client.get("/metrics").text
    assert types_of(text, "gemcut_") == METRICS
    assert types_of(text, "vllm:") == set()
    assert 'gemcut_texts_total{finish_reason="length",model="tiny"}' in text
    assert 'gemcut_http_requests_total{path="/v1/completions",status="200"}' in text


def test_the_gateways_names(start):
    with start(vllm_metric_names=True) as server:
        text = server.client.get("/metrics").text
    assert types_of(text, "vllm:") == {
        "vllm:num_requests_running gauge", "vllm:num_requests_waiting gauge", "vllm:kv_cache_usage_perc gauge",
        "vllm:lora_requests_info gauge",
    }  # fmt: skip
    assert 'vllm:num_requests_waiting{model_name="tiny"} 0.0' in text


def test_tokens_are_counted(start):
    with start() as server:
        for _ in range(2):
            assert server.complete("word " * 30, max_tokens=5, ignore_eos=True).status_code == 200
        computed, reused = server.metric("gemcut_prompt_tokens_total"), server.metric("gemcut_reused_tokens_total")
        prompt_tokens = server.complete("word " * 30, max_tokens=1).json()["usage"]["prompt_tokens"]
        assert computed + reused == 2 * prompt_tokens
        assert reused > prompt_tokens / 2
        assert server.metric("gemcut_generated_tokens_total") == 11
        assert server.metric("gemcut_time_to_first_token_seconds_count") == 3
        assert server.metric("gemcut_inter_token_seconds_count") == 8
        assert server.metric("gemcut_request_seconds_count") == 3


def test_a_full_queue_is_429(start):
    with start(parallel=1, max_waiting=1) as server:
        with server.held():
            waiting = [server.send("/v1/completions", **LONG) for _ in range(3)]
            server.until(lambda: server.server.num_working == 3)
        server.until(lambda: server.metric("gemcut_requests_rejected_total") >= 1)
        statuses = sorted(connection.recv(12)[9:12] for connection in waiting)
        assert statuses == [b"200", b"200", b"429"]


def test_a_refusal_says_when_to_come_back(start):
    with start(parallel=1, max_waiting=0) as server:
        with server.held():
            server.send("/v1/completions", **LONG)
            server.until(lambda: server.server.num_working == 1)
            second = server.send("/v1/completions", **LONG)
            server.until(lambda: server.server.num_working == 2)
        answer = b""
        while b"}}" not in answer:
            answer += second.recv(65536)
        assert b"429 Too Many Requests" in answer
        assert re.search(rb"\r\nretry-after: [1-9]\d*\r\n", answer)
        assert b'"code":"queue_full"' in answer


def test_a_drain_loses_nothing(start):
    with start() as server:
        stream = server.send("/v1/completions", stream=True, **LONG)
        with server.held():
            server.until(lambda: server.server.num_working == 1)
            server.stop()
            server.until(lambda: server.server.is_draining)
            refused = server.complete()
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.headers["connection"] == "close"
            assert refused.json()["error"]["code"] == "draining"
            assert server.client.get("/ready").status_code == 503
            assert server.client.get("/health").status_code == 200
        data = b""
        while new := stream.recv(1 << 20):
            data += new
        assert data.count(b"data: [DONE]") == 1
        assert b'"finish_reason":"length"' in data
        server.join()
    assert server.num_lost == 0


def test_what_is_not_done_in_time_gets_an_error(start):
    with start(drain_seconds=0.05) as server:
        stream = server.send("/v1/completions", stream=True, **LONG)
        whole = server.send("/v1/completions", stream=False, **LONG)
        with server.held():
            server.until(lambda: server.server.num_working == 2)
            server.stop()
            data = b""
            while new := stream.recv(1 << 20):
                data += new
            assert b'"code":"draining"' in data
            assert b"503 Service Unavailable" in whole.recv(65536)
        server.join()
    assert server.num_lost == 2


def test_ready_comes_after_loading(start):
    go_on = threading.Event()

    def load(settings):
        go_on.wait(20)
        return []

    with start(load=load, is_waited_for=False) as server:
        refused = server.complete()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "loading")
        assert refused.headers["retry-after"] == "2"
        assert server.client.get("/ready").status_code == 503
        assert server.client.get("/v1/models").status_code == 503
        assert server.client.get("/health").status_code == 200
        assert server.metric("gemcut_ready") == 0
        go_on.set()
        server.until(lambda: server.client.get("/ready").status_code == 200)


@pytest.fixture
def restored_logs():
    """Logging as it was, after a test that has set it up."""
    loggers = [logging.getLogger(name) for name in ("gemcut", "gemcut.serve", "uvicorn")]
    states = [(logger.level, logger.propagate, logger.handlers) for logger in loggers]
    yield
    for logger, (level, propagate, handlers) in zip(loggers, states, strict=True):
        logger.setLevel(level)
        logger.propagate, logger.handlers = propagate, handlers


def test_what_loading_raises_ends_the_server(restored_logs):
    from gemcut.errors import CheckpointError
    from gemcut.serve import ServerSettings, serve

    def load():
        raise CheckpointError("model.gguf: damaged")

    with pytest.raises(CheckpointError, match="damaged"):
        serve(ServerSettings(port=0), load, lambda server, url: None)


def test_an_engine_thread_that_ends_is_not_healthy(start, monkeypatch):
    with start() as server:
        model = server.server.opened().find(None)
        connection = server.send("/v1/completions", stream=True, **LONG)
        connection.recv(1000)

        def step():
            raise RuntimeError("a fault")

        monkeypatch.setattr(model.scheduler, "step", step)
        server.until(lambda: server.client.get("/health").status_code == 503)
        data = b""
        while b"[DONE]" not in data:
            data += connection.recv(1 << 20)
        assert b"The engine has stopped" in data
        assert server.complete().json()["error"]["code"] == "engine_stopped"
        assert server.client.get("/ready").status_code == 503


def test_models(served):
    first, adapted = served.client.get("/v1/models").json()["data"]
    assert first == served.client.get("/v1/models/tiny").json()
    assert (first["id"], first["root"], first["parent"]) == ("tiny", "tiny", None)
    assert (adapted["id"], adapted["root"], adapted["parent"]) == ("tiny+odd", "tiny", "tiny")
    assert first["context_length"] == first["max_model_len"] == 2000
    assert (first["engine"], first["is_chat"]) == ("native", False)
    assert first["defaults"] == {"temperature": 1.0}
    assert served.chat(model="tiny+odd").json()["model"] == "tiny+odd"


def test_request_ids(served):
    def ask(given):
        return served.client.get("/health", headers={"x-request-id": given}).headers["x-request-id"]

    assert ask("trace-1:a/b") == "trace-1:a/b"
    for bad in ("a b", "x" * 200, "{evil}"):
        assert re.fullmatch("[0-9a-f]{32}", ask(bad))
    assert served.client.get("/nope", headers={"x-request-id": "lost"}).headers["x-request-id"] == "lost"


@pytest.mark.parametrize("log_prompts", [False, True], ids=["silent", "log-prompts"])
def test_the_log_has_facts_and_no_words(start, caplog, log_prompts):
    with caplog.at_level(logging.INFO, "gemcut.serve"), start(log_prompts=log_prompts) as server:
        server.client.post(
            "/v1/completions", json={"prompt": "secret words", "max_tokens": 3}, headers={"x-request-id": "r1"}
        )
    records = [record.facts for record in caplog.records if getattr(record, "facts", {}).get("request_id") == "r1"]
    facts = records[-1]
    assert (facts["path"], facts["status"], facts["model"]) == ("/v1/completions", 200, "tiny")
    assert facts["completion_tokens"] == 3
    assert facts["finish_reason"] == "length"
    assert facts["first_token_seconds"] <= facts["seconds"]
    assert ("secret words" in json.dumps(records)) is log_prompts


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_lines_of_the_log(log_format, capsys, restored_logs):
    from gemcut.serve.logs import configure_logs

    configure_logs(log_format)
    logger = logging.getLogger("gemcut.serve")
    facts = {"path": "/a", "text": 'two "words"\n\x1b[31m'}
    logger.info("request", extra={"facts": facts})
    logger.error("failed", exc_info=ValueError("why"))
    logger.debug("not shown")
    first, *rest = capsys.readouterr().err.splitlines()
    if log_format == "json":
        line = json.loads(first)
        assert (line["level"], line["message"], line["path"], line["text"]) == ("info", "request", "/a", facts["text"])
        assert json.loads(rest[0])["exception"] == "ValueError: why"
    else:
        assert first.endswith('Z INFO request path=/a text="two \\"words\\"\\n\\u001b[31m"')
        assert rest[0].endswith("ERROR failed")
        assert rest[1] == "ValueError: why"
