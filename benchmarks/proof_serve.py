"""Faults, fuzzers, SIGTERM under load and a long soak of `gemcut serve` (12 minutes or so).

    python benchmarks/proof_serve.py [PART ...] [--minutes N] [--clients N] [--requests N] [--seed N]

A PART is one of faults, engine-error, fuzz, schemathesis, drain and soak; all by default. Schemathesis runs in
.venv-schemathesis. What the parts find replaces what they found before in benchmarks/results/serve-faults.json.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import datetime
import importlib.metadata
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable

from engine_models import HERE
from rich.console import Console
from rich.table import Table
from run import machine
from serve_drain import DRAIN_FLAGS, drained
from serve_engine_error import told_of_engine_errors
from serve_faults import Check, found_faults
from serve_fuzz import fuzzed
from serve_soak import nothing_left, soaked
from server_process import ServerProcess, gemcut_server

MODEL = "starter"
KEY = "a key that only the proof knows"
SCHEMATHESIS = HERE.parent / ".venv-schemathesis" / "bin" / "schemathesis"
RESULTS = HERE / "results" / "serve-faults.json"
SHORT = ("--context", "512", "--quiet")


def main() -> None:
    """Run the parts, print what they found, keep it; exit code 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"out of {', '.join(PARTS)}")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak")
    parser.add_argument("--clients", type=int, default=64, help="of the soak")
    parser.add_argument("--requests", type=int, default=3000, help="of the fuzzer; examples of schemathesis: a tenth")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        parser.error(f"{unknown[0]} is no part; expected some of {', '.join(PARTS)}")
    passed = True
    for part in arguments.parts or PARTS:
        checks = PARTS[part](arguments)
        Console().print(table(part, checks))
        passed &= all(check.passed for check in checks)
        keep(part, checks, arguments)
    sys.exit(0 if passed else 1)


def keep(part: str, checks: list[Check], arguments: argparse.Namespace) -> None:
    """Write what a part found beside what the others have."""
    parts = json.loads(RESULTS.read_text())["parts"] if RESULTS.is_file() else {}
    parts[part] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": f"python benchmarks/proof_serve.py {part} --minutes {arguments.minutes:g} "
        f"--clients {arguments.clients} --requests {arguments.requests} --seed {arguments.seed}",
        "passed": sum(check.passed for check in checks),
        "failed": sum(not check.passed for check in checks),
        "checks": [dataclasses.asdict(check) for check in checks],
    }
    names = ("gemcut", "starlette", "uvicorn", "pydantic", "llguidance")
    versions = {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
    report = {"name": "serve-faults", "versions": versions, "machine": machine(), "model": MODEL, "parts": parts}
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")


def faults(arguments: argparse.Namespace) -> list[Check]:
    """Requests that no client should send, one by one."""
    with gemcut_server(MODEL, *SHORT, api_key=KEY) as server:
        return asyncio.run(_then_nothing(server, found_faults(server.address)))


def engine_error(arguments: argparse.Namespace) -> list[Check]:
    """An engine that fails in the middle of a text."""
    with gemcut_server(MODEL, *SHORT, program=HERE / "faulty_server.py") as server:
        return asyncio.run(_then_nothing(server, told_of_engine_errors(server.address)))


def fuzz(arguments: argparse.Namespace) -> list[Check]:
    """Bodies changed at random."""
    with gemcut_server(MODEL, *SHORT) as server:
        return asyncio.run(_then_nothing(server, fuzzed(server.address, arguments.requests, arguments.seed)))


def schemathesis(arguments: argparse.Namespace) -> list[Check]:
    """Schemathesis against the server's own description of its interface."""
    with gemcut_server(MODEL, "--context", "48", "--quiet") as server:
        url = f"http://{server.address.host}:{server.address.port}/openapi.json"
        judged = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
        command = [
            *(str(SCHEMATHESIS), "run", url, "--checks", judged, "--max-examples", str(arguments.requests // 10)),
            *(
                "--request-timeout",
                "300",
                "--max-time",
                "600",
                "--seed",
                str(arguments.seed),
                "--no-color",
                "--workers",
                "2",
            ),
        ]
        with tempfile.TemporaryDirectory() as folder:  # it leaves files where it runs
            result = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
        # "Runtime Error" is its own: in making a request, which was then not sent.
        passed = "Test cases:" in result.stdout and "FAILURES" not in result.stdout and "Network" not in result.stdout
        summary = result.stdout.partition("= SUMMARY =")[2] if passed else result.stdout[-4000:] + result.stderr[-1000:]
        found = " | ".join(line.strip(" =") for line in summary.splitlines() if line.strip(" ="))
        check = Check("schemathesis", passed, found, "no 5xx, answers as /openapi.json says")
        return asyncio.run(_then_nothing(server, _ready(check)))


def drain(arguments: argparse.Namespace) -> list[Check]:
    """SIGTERM under load."""
    with gemcut_server(MODEL, "--quiet", *DRAIN_FLAGS) as server:
        return asyncio.run(drained(server))


def soak(arguments: argparse.Namespace) -> list[Check]:
    """Many clients, of whom many leave."""
    with gemcut_server(MODEL, *SHORT, "--queue", "256") as server:
        return asyncio.run(soaked(server, arguments.clients, arguments.minutes))


PARTS: dict[str, Callable[[argparse.Namespace], list[Check]]] = {
    "faults": faults,
    "engine-error": engine_error,
    "fuzz": fuzz,
    "schemathesis": schemathesis,
    "drain": drain,
    "soak": soak,
}


def table(part: str, checks: list[Check]) -> Table:
    """What failed, or a part's few checks."""
    failed = [check for check in checks if not check.passed]
    result = Table(title=f"{part}: {len(checks) - len(failed)} of {len(checks)} passed")
    for column in ("check", "found", "expected"):
        result.add_column(column, overflow="fold")
    for check in failed or checks if len(checks) < 20 else failed:
        result.add_row(check.name, check.found[:1500], check.expected, style="red" if not check.passed else "")
    return result


async def _ready(check: Check) -> list[Check]:
    return [check]


async def _then_nothing(server: ServerProcess, found: Awaitable[list[Check]]) -> list[Check]:
    """What was found, whether anything is left of it in the server, and whether it still runs."""
    checks = [*await found, await nothing_left(server)]
    return [*checks, Check("the process", server.is_alive, "runs" if server.is_alive else server.log()[-500:], "runs")]


if __name__ == "__main__":
    main()
