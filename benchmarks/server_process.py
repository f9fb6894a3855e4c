"""Servers as child processes: ours, llama.cpp's and vLLM's."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from http_client import Address

READY_SECONDS = 900.0  # vLLM on a busy machine takes minutes
END_SECONDS = 60.0
ROOT = Path(__file__).resolve().parents[1]
LLAMA_SERVER = ROOT / ".venv-llamacpp" / "bin" / "llama-server"
VLLM_PYTHON = ROOT / ".venv-vllm" / "bin" / "python"


class ServerProcess:
    """A server that is ready; used in `with`, which ends it.

    Args:
        name: For reports.
        command: Its command line.
        address: Where that makes it listen.
        ready_path: Answers 200 once it takes requests.
        environment: Added to this process's own.

    Raises:
        RuntimeError: it ended, or was not ready in READY_SECONDS; with the end of what it said.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        address: Address,
        ready_path: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.address = name, address
        self._log = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers(ready_path):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise RuntimeError(f"{name}: it does not get ready: {self.log()[-2000:]}")
            time.sleep(0.1)

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def resident_bytes(self) -> int:
        """Memory in RAM, pages of mapped files not counted. Source: man 5 proc_pid_status."""
        rows = (line.split() for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        return sum(int(row[1]) * 1024 for row in rows if row and row[0] in ("RssAnon:", "RssShmem:"))

    def log(self) -> str:
        """What it said."""
        self._log.flush()
        return Path(f"/proc/self/fd/{self._log.fileno()}").read_text(errors="replace")

    def _answers(self, path: str) -> bool:
        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def gemcut_server(
    model: str | Path, *flags: str, api_key: str | None = None, program: Path | None = None
) -> ServerProcess:
    """A running `gemcut serve` on a free port.

    Args:
        model: A model reference.
        flags: Of the command.
        api_key: What opens it.
        program: A script that takes the command's arguments, instead of gemcut itself.
    """
    address = Address(free_port(), api_key=api_key)
    start = [str(program)] if program else ["-m", "gemcut"]
    command = [sys.executable, *start, "serve", str(model), "--port", str(address.port), *flags]
    if api_key:
        command += ["--api-key", api_key]
    return ServerProcess("gemcut", command, address, "/ready")


def llama_server(model: Path, *flags: str) -> ServerProcess:
    """A running llama-server on a free port.

    Raises:
        FileNotFoundError: it has not been built.
    """
    if not LLAMA_SERVER.is_file():
        raise FileNotFoundError(
            f"{LLAMA_SERVER}: it has not been built. Build it: make .venv-llamacpp/bin/llama-server"
        )
    address = Address(free_port())
    command = [str(LLAMA_SERVER), "--model", str(model), "--host", address.host, "--port", str(address.port)]
    return ServerProcess("llama-server", [*command, "--no-ui", *flags], address, "/health")


def vllm_server(folder: Path, name: str, *flags: str) -> ServerProcess:
    """VLLM's server on the CPU and a free port, in float32."""
    address = Address(free_port())
    command = [str(VLLM_PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--served-model-name", name, "--port", str(address.port), "--host", address.host]
    command += ["--dtype", "float32", "--enforce-eager", *flags]
    environment = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    return ServerProcess("vllm", command, address, "/health", environment)


def free_port() -> int:
    """A TCP port of this machine that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
