"""A closed place for programs that a model wrote: they see little, reach nothing, and end in time."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from gemcut.errors import BackendError

Mechanism = Literal["namespaces", "bubblewrap"]
MECHANISMS: tuple[Mechanism, ...] = ("namespaces", "bubblewrap")
NOBODY = 65534  # root's programs run as this user and group: the kernel does not hold root to a number of processes
# Where programs and their libraries lie; what else a Python needs is found from it.
SYSTEM_FOLDERS = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/nix/store", "/etc/ld.so.cache")
KEPT_BYTES = 16 << 10
POLL_SECONDS = 0.05
KILL_SECONDS = 10.0
SETUP_SECONDS = 60.0
READY = b"ready\n"  # what the set-up says last


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes:
        wall_seconds: Time until it is ended.
        cpu_seconds: Processor time of each of its processes; at least 1.
        memory_bytes: Address space of each process, and memory of all of them together.
        folder_bytes: Of its folder and of each file.
        output_bytes: Of standard output and standard error together.
        num_processes: Processes and threads at a time.
        num_files: Open files of each process.
    """

    wall_seconds: float = 40.0
    cpu_seconds: int = 5
    memory_bytes: int = 1 << 30
    folder_bytes: int = 64 << 20
    output_bytes: int = 1 << 20
    num_processes: int = 32
    num_files: int = 64


@dataclasses.dataclass(frozen=True)
class ProgramResult:
    """How a program ended.

    Attributes:
        passed: Whether it ran to its last line and ended quietly, and left nothing running.
        reason: In words; "passed" where it did.
        output: The beginning of what it wrote.
        seconds: From start to end.
    """

    passed: bool
    reason: str
    output: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Availability:
    """Whether programs can be run here.

    Attributes:
        mechanism: What closes them in; None where nothing can.
        reason: Why each mechanism that comes before does not work; empty where the first one does.
    """

    mechanism: Mechanism | None
    reason: str

    @property
    def works(self) -> bool:
        """Whether there is a mechanism."""
        return self.mechanism is not None


@functools.cache
def available() -> Availability:
    """Which mechanism works here, found by trying: namespaces of the kernel, else bubblewrap."""
    reasons = []
    for mechanism in MECHANISMS:
        try:
            result = _run("import socket", Limits(), mechanism)
        except (BackendError, OSError) as error:
            reasons.append(f"{mechanism}: {error}")
            continue
        if result.passed:
            return Availability(mechanism, "; ".join(reasons))
        reasons.append(f"{mechanism}: an empty program ended so: {result.reason}")
    return Availability(None, "; ".join(reasons))


def run_program(source: str, limits: Limits | None = None) -> ProgramResult:
    """Run a Python program, which has the standard library alone, without anything it does leaving the sandbox.

    It sees the system's programs and this Python, read-only, and an empty folder of its own, /tmp; no network, no other
    process, no environment, no input. Several may run at a time.

    Raises:
        BackendError: neither mechanism works here, or the sandbox could not be set up.
    """
    found = available()
    if found.mechanism is None:
        raise BackendError(
            f"Code execution: this machine offers no sandbox ({found.reason}). Allow user namespaces, or install "
            "bubblewrap; Gemcut runs no program of a model outside of a sandbox."
        )
    return _run(source, limits or Limits(), found.mechanism)


def _run(source: str, limits: Limits, mechanism: Mechanism) -> ProgramResult:
    start = time.perf_counter()
    key = secrets.token_hex(16)
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as given, open(reading, "rb") as status:
        given.write(f"{key}\n{source}".encode("utf-8", "surrogatepass"))
        given.seek(0)
        try:
            process = subprocess.Popen(
                _command(mechanism, limits, writing),
                stdin=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={"LANG": "C.UTF-8"}, cwd="/",
                pass_fds=(writing,), start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(writing)
        watched = _Watched(process, status, limits)
        try:
            watched.until_its_end()
        finally:
            watched.kill()
    return watched.result(key, time.perf_counter() - start)


class _Watched:
    """A program that runs, what it has said, and why it was ended."""

    def __init__(self, process: subprocess.Popen[bytes], status: Any, limits: Limits) -> None:
        assert process.stdout is not None
        self.process, self.limits = process, limits
        self.files = {process.stdout.fileno(): bytearray(), status.fileno(): bytearray()}
        self.output, self.status = self.files.values()
        self.num_output_bytes = 0
        self.ended: str | None = None
        with contextlib.suppress(OSError):  # if memory becomes short on this machine, this goes first
            Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000", encoding="ascii")

    def until_its_end(self) -> None:
        """Read until all ends of both pipes are closed, or a limit is reached."""
        deadline, is_ready = time.monotonic() + SETUP_SECONDS, False
        with selectors.DefaultSelector() as selector:
            for file in self.files:
                selector.register(file, selectors.EVENT_READ)
            while selector.get_map():
                for event, _ in selector.select(POLL_SECONDS):
                    if not self._read(event.fd):
                        selector.unregister(event.fd)
                if not is_ready and self.status.startswith(READY):
                    deadline, is_ready = time.monotonic() + self.limits.wall_seconds, True
                if time.monotonic() > deadline:
                    limit = self.limits.wall_seconds if is_ready else SETUP_SECONDS
                    self.ended = f"it ran longer than {limit:g} s"
                elif self.num_output_bytes > self.limits.output_bytes:
                    self.ended = f"it wrote more than {self.limits.output_bytes} bytes"
                elif resident_bytes(self.process.pid) > self.limits.memory_bytes:
                    self.ended = f"it held more than {self.limits.memory_bytes} bytes"
                if self.ended:
                    return

    def _read(self, file: int) -> bool:
        data = os.read(file, 1 << 16)
        kept = self.files[file]
        kept += data[: max(0, KEPT_BYTES - len(kept))]
        if kept is self.output:
            self.num_output_bytes += len(data)
        return bool(data)

    def kill(self) -> None:
        """End all of it and wait for that; the kernel ends the other processes of a namespace with their first one."""
        family = list(_family(self.process.pid))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(KILL_SECONDS)
        deadline = time.monotonic() + KILL_SECONDS
        while any(map(_is_alive, family)) and time.monotonic() < deadline:
            time.sleep(0.005)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def result(self, key: str, seconds: float) -> ProgramResult:
        """How it ended.

        Raises:
            BackendError: the program was not even begun.
        """
        output = self.output.decode("utf-8", "replace")
        lines = self.status.decode("ascii", "replace").splitlines()
        if not self.status.startswith(READY):
            what = (output.strip().splitlines() or [self.ended or "it ended at once"])[-1]
            raise BackendError(f"Code execution: the sandbox could not be set up: {what}.")
        reason = self.ended or _reason(lines, key, output)
        return ProgramResult(reason == "passed", reason, output, seconds)


def _reason(lines: list[str], key: str, output: str) -> str:
    end = next((line.split() for line in lines if line.startswith("end ")), None)
    if end is None:
        return "it ended the sandbox"
    if int(end[1]) < 0:
        return f"it was ended by signal {-int(end[1])} ({signal.strsignal(-int(end[1]))})"
    if f"done {key}" not in lines or end[1] != "0":
        return (output.strip().splitlines() or [f"it ended early with exit code {end[1]}"])[-1][:200]
    return "passed" if end[2] == "0" else "it left processes behind"


def resident_bytes(pid: int) -> int:
    """Memory of a process and all it started; pages that they share count for each. 0 where Linux does not tell."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = 0
    for each in _family(pid):
        with contextlib.suppress(OSError, IndexError, ValueError):
            total += int(Path(f"/proc/{each}/statm").read_text(encoding="ascii").split()[1]) * page
    return total


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text(encoding="ascii").split():
                yield from _family(int(child))


def _is_alive(pid: int) -> bool:
    """Whether a process is there and more than an entry that nobody has asked for yet."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] != "Z"
        )
    except (OSError, IndexError):
        return False


def _command(mechanism: Mechanism, limits: Limits, status: int) -> list[str]:
    if sys.platform != "linux":
        raise BackendError(f"needs Linux, this is {sys.platform}")
    python = os.path.realpath(sys.executable)
    settings = {
        "mechanism": mechanism,
        "python": python,
        "status": status,
        "host_id": NOBODY if os.getuid() == 0 else None,
        "folder": tempfile.gettempdir(),
        "folder_bytes": limits.folder_bytes,
        "readable": _readable(python),
        "limits": {
            "RLIMIT_AS": limits.memory_bytes,
            "RLIMIT_CPU": limits.cpu_seconds,
            "RLIMIT_FSIZE": limits.folder_bytes,
            "RLIMIT_NPROC": limits.num_processes,
            "RLIMIT_NOFILE": limits.num_files,
            "RLIMIT_CORE": 0,
            "RLIMIT_MEMLOCK": 0,
            "RLIMIT_MSGQUEUE": 0,
        },
    }
    child = (resources.files("gemcut.evaluate") / "sandbox_child.py").read_text(encoding="utf-8")
    inside = [python, "-I", "-S", "-B", "-c", child, json.dumps(settings)]
    return inside if mechanism == "namespaces" else [*_bubblewrap(limits), "--", *inside]


def _readable(python: str) -> list[str]:
    """What the program sees of this machine's files, none of it inside another."""
    wanted = [*SYSTEM_FOLDERS, *map(os.path.realpath, (sys.base_prefix, sys.base_exec_prefix)), python]
    chosen: list[str] = []
    for path in wanted:
        inside = any(path == each or path.startswith(each + "/") for each in chosen)
        if not inside and path != "/" and os.path.lexists(path):
            chosen.append(path)
    return chosen


def _bubblewrap(limits: Limits) -> list[str]:
    program = shutil.which("bwrap")
    if program is None:
        raise BackendError("bwrap is not installed")
    command = [program, "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-net", "--unshare-ipc"]
    command += ["--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL"]
    if os.getuid() == 0:  # to become nobody
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user-try"]
    for path in _readable(os.path.realpath(sys.executable)):
        for parent in [*Path(path).parents][-2::-1]:  # left to itself, it lets their owner alone pass
            command += ["--perms", "0755", "--dir", str(parent)]
        is_link = os.path.islink(path)
        command += ["--symlink", os.readlink(path), path] if is_link else ["--ro-bind", path, path]
    return [*command, "--dev", "/dev", "--size", str(limits.folder_bytes), "--perms", "1777", "--tmpfs", "/tmp",
            "--remount-ro", "/", "--chdir", "/tmp"]  # fmt: skip


__all__ = ["Availability", "Limits", "ProgramResult", "available", "run_program"]
