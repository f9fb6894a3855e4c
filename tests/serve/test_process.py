"""`gemcut serve` as a process: its port, its banner, its signals."""

import signal
import socket
import subprocess
import sys
import time

import httpx2
import pytest

pytestmark = pytest.mark.native


@pytest.fixture(scope="module")
def folder(write_tiny_model, tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny", max_position_embeddings=2000)


def test_a_signal_lets_a_stream_finish(folder, launch):
    process, said = launch(folder, "--log-format", "json", "--threads", "1", "--drain-seconds", "100", PORT="0")
    with process:
        assert "Serving tiny (a base model: it continues text and was not trained to talk)" in said
        assert "context    2,000 tokens; 8 texts side by side, 128 may wait" in said
        url = next(line.split()[1] for line in said.splitlines() if line.startswith("  API")).removesuffix("/v1")
        body = {"prompt": "Hi", "max_tokens": 400, "ignore_eos": True, "stream": True}
        with httpx2.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            rest = list(lines)
        assert rest[-2] == "data: [DONE]"
        assert '"finish_reason":"length"' in rest[-4]
        assert process.wait(30) == 0
        log = process.stderr.read()
    assert '"path": "/v1/completions", "status": 200' in log
    assert "Traceback" not in said + log


def test_no_part_of_an_answer_waits_for_the_one_before(served):
    """A connection that has been used often no longer acknowledges at once, so what is held back comes 40 ms later."""
    seconds = []
    for _ in range(60):
        begin = time.perf_counter()
        assert served.client.get("/health").status_code == 200
        seconds.append(time.perf_counter() - begin)
    assert min(seconds[30:]) < 0.03
    from gemcut.serve.process import listen
    from gemcut.serve.settings import ServerSettings

    with listen(ServerSettings(port=0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_without_the_extra_it_is_named():
    code = "import sys; sys.modules['starlette'] = None; from gemcut.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "serve", "starter"], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert result.stderr.startswith("gemcut: starlette")
    assert result.stderr.endswith('which the server stands on, is not installed. Run: pip install "gemcut[serve]"\n')
