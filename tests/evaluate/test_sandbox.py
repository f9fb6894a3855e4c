"""The sandbox: programs that do harm do none here, and have failed."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import gemcut
from gemcut.errors import BackendError
from gemcut.evaluate import sandbox
from gemcut.evaluate.sandbox import Limits, ProgramResult

LIMITS = Limits(wall_seconds=20, cpu_seconds=4, memory_bytes=256 << 20, folder_bytes=8 << 20, output_bytes=100_000)
SHORT = Limits(wall_seconds=1)

# Each of these has a harm in mind and passes where it was done; what stands in its way it takes calmly.
TRIED = """
import ctypes, os, shutil, socket, subprocess, sys
done = []
def attempt(harm):
    try:
        if harm() is not False:
            done.append(harm)
    except (OSError, AttributeError):
        pass
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    return getattr(libc, name)(*arguments) == 0
"""
HARMFUL = {
    "reads a file outside": "attempt(lambda: open({canary!r}).read())",
    "writes a file outside": "attempt(lambda: open({canary!r}, 'w').write('x'))",
    "writes beside the standard library": "attempt(lambda: open(os.__file__, 'a').write('x'))",
    "deletes files": (
        "json = os.path.dirname(os.__file__) + '/json'\nfor place in (json, {folder!r}):\n"
        "    shutil.rmtree(place, ignore_errors=True)\n"
        "attempt(lambda: not os.path.exists(json)); attempt(lambda: os.remove(os.__file__)); attempt(lambda: os.remove({canary!r}))"
    ),
    "deletes what it may write beside": "attempt(lambda: os.rmdir('/tmp')); attempt(lambda: os.mkdir('/new'))",
    "mounts": "attempt(lambda: call('mount', None, b'/', None, 32 | 4096, None)); attempt(lambda: call('umount2', b'/tmp', 2))",
    "makes namespaces": "attempt(lambda: call('unshare', 0x10000000)); attempt(lambda: call('unshare', 0x20000))",
    "changes its root": "attempt(lambda: os.chroot('/tmp')); attempt(lambda: os.setuid(0))",
    "signals others": "attempt(lambda: os.kill({process}, 9)); attempt(lambda: os.kill({parent}, 9))",
    "signals its watcher": "attempt(lambda: os.kill(1, 9) or False)",
    "looks into its watcher": "attempt(lambda: call('ptrace', 16, os.getppid(), None, None))",
    "connects to the network": "attempt(lambda: socket.create_connection(('127.0.0.1', {port}), 2))",
    "connects to a socket by its name": (
        "connection = socket.socket(socket.AF_UNIX)\nattempt(lambda: connection.connect('\\0{abstract}'))"
    ),
    "opens a socket of the virtual machine": "attempt(lambda: socket.socket(40, socket.SOCK_STREAM))",
    "opens a raw socket": "attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))",
    "fills the disk": (
        "for number in range(40):\n    attempt(lambda: open(f'/tmp/{{number}}', 'wb').write(bytes(1 << 20)) < 0)\n"
        "attempt(lambda: sum(file.stat().st_size for file in os.scandir('/tmp')) > 9 << 20)"
    ),
    "holds memory that no limit counts": (
        "attempt(lambda: os.memfd_create('x')); attempt(lambda: libc.shmget(0, 1 << 20, 0o1600) >= 0)"
    ),
}


@pytest.fixture(scope="module", params=sandbox.MECHANISMS)
def run(request: pytest.FixtureRequest) -> functools.partial[ProgramResult]:
    """Runs a program with one of the mechanisms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "MECHANISMS", (request.param,))
        sandbox.available.cache_clear()
        found = sandbox.available()
    sandbox.available.cache_clear()
    if not found.works:
        pytest.skip(f"no sandbox of this kind here: {found.reason}")
    return functools.partial(sandbox._run, mechanism=request.param)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that nobody should end."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_an_ordinary_program_passes_in_an_empty_folder_without_environment_and_input(run) -> None:
    result = run(
        "import os, sys, json, math, random, re, threading\n"
        "assert os.getcwd() == '/tmp' and os.listdir('/tmp') == [] and set(os.environ) == {'LANG'}\n"
        "assert sys.stdin.read() == '' and os.getuid() not in (0,)\n"
        "open('note', 'w').write('text'); assert open('note').read() == 'text'\n"
        "thread = threading.Thread(target=print, args=('from a thread',)); thread.start(); thread.join()\n",
        LIMITS,
    )

    assert (result.passed, result.reason, result.output) == (True, "passed", "from a thread\n")
    assert 0 < result.seconds < LIMITS.wall_seconds


@pytest.mark.parametrize("harm", HARMFUL)
def test_a_harmful_program_harms_nothing_and_fails(
    run, tmp_path: Path, bystander: subprocess.Popen[bytes], harm: str
) -> None:
    canary = tmp_path / "canary"
    canary.write_text("alive")
    before = Path(os.__file__).stat()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as named:
        server.setblocking(False)
        abstract = f"gemcut-test-{os.getpid()}"
        named.bind("\0" + abstract)
        named.listen()
        named.setblocking(False)
        program = HARMFUL[harm].format(
            canary=str(canary), folder=str(tmp_path), process=bystander.pid, parent=os.getpid(),
            port=server.getsockname()[1], abstract=abstract,
        )  # fmt: skip
        result = run(f"{TRIED}\n{program}\nassert done, 'no harm was done'", LIMITS)
        for listener in (server, named):
            with pytest.raises(BlockingIOError):
                listener.accept()

    assert not result.passed
    assert result.reason == "AssertionError: no harm was done"
    assert canary.read_text() == "alive"
    assert Path(os.__file__).stat() == before
    assert bystander.poll() is None


def test_a_program_that_never_ends_is_ended(run) -> None:
    result = run("while True: pass", SHORT)

    assert (result.passed, result.reason) == (False, "it ran longer than 1 s")
    assert result.seconds < 10


def test_a_program_that_takes_too_much_processor_time_is_ended(run) -> None:
    result = run("while True: pass", Limits(wall_seconds=60, cpu_seconds=1))

    assert (result.passed, result.reason) == (False, "it was ended by signal 9 (Killed)")


def test_a_program_that_ignores_signals_is_ended(run) -> None:
    result = run(
        "import signal, time\n"
        "for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, signal.SIG_IGN)\n"
        "while True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass\n",
        SHORT,
    )

    assert (result.passed, result.reason) == (False, "it ran longer than 1 s")


@pytest.mark.parametrize("ends", ["", "time.sleep(60)"])
def test_processes_that_a_program_leaves_behind_end_with_it(run, ends: str) -> None:
    name = f"gc{os.getpid() % 100000}{time.monotonic_ns() % 1000000}"  # up to 15 characters
    result = run(
        "import ctypes, os, signal, time\n"
        "if not os.fork():\n"
        "    os.setsid()\n"
        "    if not os.fork():\n"
        f"        ctypes.CDLL(None).prctl(15, {name.encode()!r}, 0, 0, 0)\n"
        "        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "        time.sleep(60)\n"
        f"time.sleep(0.3)\n{ends}",
        SHORT if ends else LIMITS,
    )

    assert (result.passed, result.reason) == (False, "it ran longer than 1 s" if ends else "it left processes behind")
    _wait_until(lambda: not _is_running(name))  # the kernel may still be at it


def test_programs_end_with_the_process_that_runs_them(run) -> None:
    name = f"gk{os.getpid() % 100000}{time.monotonic_ns() % 1000000}"
    program = f"import ctypes, time; ctypes.CDLL(None).prctl(15, {name.encode()!r}, 0, 0, 0)\ntime.sleep(60)"
    script = (
        "import sys; from gemcut.evaluate import sandbox\n"
        f"sandbox._run({program!r}, sandbox.Limits(wall_seconds=60), {run.keywords['mechanism']!r})"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as runner:
        _wait_until(lambda: _is_running(name))
        runner.kill()
    _wait_until(lambda: not _is_running(name))


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_running(name: str) -> bool:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().strip() == name:
                return True
    return False


def test_a_fork_bomb_stays_small(run) -> None:
    result = run("import os\nwhile True: os.fork()", LIMITS)

    assert not result.passed
    assert "BlockingIOError" in result.output or "it ran longer" in result.reason


def test_a_fork_bomb_that_takes_its_limit_calmly_is_ended(run) -> None:
    result = run("import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass", SHORT)

    assert not result.passed


def test_memory_of_one_process_is_limited(run) -> None:
    result = run("held = []\nwhile True: held.append(bytes(1 << 20))", LIMITS)

    assert not result.passed
    assert "MemoryError" in result.reason or "it held more than 268435456 bytes" in result.reason


def test_memory_of_all_processes_together_is_limited(run) -> None:
    result = run(
        "import os, time\n"
        "for _ in range(8):\n"
        "    if not os.fork():\n        held = bytearray(os.urandom(1 << 10) * (64 << 10)); time.sleep(30)\n"
        "time.sleep(30)",
        LIMITS,
    )

    assert (result.passed, result.reason) == (False, "it held more than 268435456 bytes")


def test_a_program_that_floods_its_output_is_ended(run) -> None:
    result = run("while True: print('x' * 1000)", LIMITS)

    assert (result.passed, result.reason) == (False, "it wrote more than 100000 bytes")
    assert len(result.output) <= sandbox.KEPT_BYTES


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise SystemExit(0)", "it ended early with exit code 0"),
        ("import os; os._exit(0)", "it ended early with exit code 0"),
        (
            "import os, sys; os.write(int(sys.orig_argv[-1]), b'done\\n'); os._exit(0)",
            "it ended early with exit code 0",
        ),
        ("import atexit, os; atexit.register(os._exit, 3)", "it ended early with exit code 3"),
        ("import os; os.kill(os.getpid(), 11)", "it was ended by signal 11 (Segmentation fault)"),
        ("assert 1 == 2, 'no'", "AssertionError: no"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("x = '\ud800'", "it ended early"),
        ("\0", "source code string cannot contain null bytes"),
        ("input()", "EOFError: EOF when reading a line"),
    ],
)
def test_leaving_early_is_failing(run, program: str, reason: str) -> None:
    result = run(program, LIMITS)

    assert not result.passed
    assert reason in result.reason or program.startswith("x")


def test_programs_run_side_by_side(run) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda number: run(f"assert {number} % 3", LIMITS), range(12)))

    assert [result.passed for result in results] == [number % 3 != 0 for number in range(12)]


def test_an_ordinary_user_is_as_safe(tmp_path: Path) -> None:
    """The same as user nobody, with a Python that it may run."""
    python = next((path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if os.path.exists(path)), None)
    source = Path(gemcut.__file__).parents[1]
    probe = "import sys; sys.path.insert(0, sys.argv[1]); import gemcut.evaluate.sandbox"
    if os.getuid() != 0 or python is None:
        pytest.skip("only root can become another user, and needs a Python that all may run")
    if subprocess.run(
        [python, "-c", probe, str(source)], user=65534, group=65534, cwd="/", capture_output=True
    ).returncode:
        pytest.skip(f"user nobody cannot import {source} with {python}")
    programs = [
        "import os; assert os.getuid() == 1000 and os.listdir('/tmp') == []",
        "open('/usr/x', 'w')",
        "import socket; socket.create_connection(('127.0.0.1', 22))",
        "import os\nwhile True: os.fork()",
        "held = []\nwhile True: held.append(bytes(1 << 20))",
        "import os, time\nif not os.fork():\n    time.sleep(60)",
        "while True: print('x' * 1000)",
        "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0",
    ]
    script = (
        f"{probe}\nimport json\nfrom gemcut.evaluate import sandbox\nsandbox.MECHANISMS = ('namespaces',)\n"
        "if not sandbox.available().works: raise SystemExit(json.dumps(sandbox.available().reason))\n"
        "results = [sandbox.run_program(program) for program in json.load(sys.stdin)]\n"
        "print(json.dumps([[result.passed, result.reason] for result in results]))"
    )
    answer = subprocess.run(
        [python, "-c", script, str(source)], input=json.dumps(programs), user=65534, group=65534, extra_groups=(),
        cwd="/", text=True, capture_output=True, timeout=120,
    )  # fmt: skip
    if answer.returncode:
        pytest.skip(f"user nobody has no sandbox here: {answer.stderr[-300:]}")
    results = json.loads(answer.stdout)

    assert [passed for passed, _ in results] == [True, *[False] * 7]
    assert [reason.split(":")[0] for _, reason in results] == [
        "passed", "OSError", "OSError", "BlockingIOError", results[4][1].split(":")[0], "it left processes behind",
        "it wrote more than 1048576 bytes", "AssertionError",
    ]  # fmt: skip


@pytest.fixture
def fresh_availability() -> Iterator[None]:
    sandbox.available.cache_clear()
    yield
    sandbox.available.cache_clear()


@pytest.mark.usefixtures("fresh_availability")
def test_without_a_mechanism_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sandbox, "MECHANISMS", ("bubblewrap",))

    assert sandbox.available() == sandbox.Availability(None, "bubblewrap: bwrap is not installed")
    with pytest.raises(BackendError, match=r"this machine offers no sandbox \(bubblewrap: bwrap is not installed\)"):
        sandbox.run_program("print('never')")


@pytest.mark.usefixtures("fresh_availability")
def test_other_systems_have_no_mechanism(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    assert (
        sandbox.available().reason == "namespaces: needs Linux, this is darwin; bubblewrap: needs Linux, this is darwin"
    )


@pytest.mark.usefixtures("fresh_availability")
def test_closed_namespaces_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that refuses namespaces, as its set-up process sees it."""
    real = sandbox._command

    def refused(*arguments: object) -> list[str]:
        command = real(*arguments)
        command[5] = command[5].replace(
            '_call("unshare", NEW_NAMESPACES)', 'raise PermissionError(1, "unshare: closed")'
        )
        return command

    monkeypatch.setattr(sandbox, "MECHANISMS", ("namespaces",))
    monkeypatch.setattr(sandbox, "_command", refused)

    assert "the sandbox could not be set up: PermissionError: [Errno 1] unshare: closed." in sandbox.available().reason
