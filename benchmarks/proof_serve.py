"""Faults, fuzzers, SIGTERM under load and a long soak of `gemcut serve` (20 minutes or so).

    python benchmarks/proof_serve.py [PART ...] [--minutes N] [--clients N] [--requests N] [--examples N] [--seed N]

A PART is one of faults, engine-error, fuzz, schemathesis, drain and soak; all by default. Schemathesis runs in
.venv-schemathesis, against a tiny random model. What the parts find replaces what they found before in
benchmarks/results/serve-faults.json.
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
from pathlib import Path
from typing import Any

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

sys.path.append(str(HERE.parent / "tests" / "parity"))
from tiny_model import write_tiny_model

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
    parser.add_argument("--requests", type=int, default=3000, help="of the fuzzer")
    parser.add_argument("--examples", type=int, default=100, help="of schemathesis, for each path and phase")
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
        f"--clients {arguments.clients} --requests {arguments.requests} --examples {arguments.examples} "
        f"--seed {arguments.seed}",
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
    """Schemathesis against the server's own description of its interface, to its end."""
    judged = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with gemcut_server(write_tiny_model(folder / "tiny"), "--context", "48", "--quiet") as server:
            report = folder / "report.json"
            # One worker: two that parse Python at once trip over each other in CPython 3.11.
            command = [str(SCHEMATHESIS), "run", f"http://{server.address.host}:{server.address.port}/openapi.json"]
            command += ["--checks", judged, "--max-examples", str(arguments.examples), "--seed", str(arguments.seed)]
            command += ["--request-timeout", "300", "--workers", "1", "--no-color"]
            command += ["--report", "json", "--report-json-path", str(report)]
            result = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
            found = json.loads(report.read_text()) if report.is_file() else {}
            check = Check(
                "schemathesis",
                result.returncode == 0 and is_clean(found),
                f"{summary(found)}{'' if result.returncode == 0 else result.stdout[-4000:] + result.stderr[-1000:]}",
                "runs to its end, every path tested, no failure, no error",
            )
            return asyncio.run(_then_nothing(server, _ready(check)))


def is_clean(report: dict[str, Any]) -> bool:
    """Whether schemathesis did all it set out to, and found nothing and failed in nothing."""
    return (
        bool(report)
        and report["complete"]
        and report["stop_reason"] == "completed"
        and not report["failures"]
        and not report["errors"]
        and report["operations"]["tested"] == report["operations"]["total"] > 0
        and {phase["status"] for phase in report["phases"].values()} <= {"success", "skip"}
        and report["phases"]["coverage"]["status"] == report["phases"]["fuzzing"]["status"] == "success"
    )


def summary(report: dict[str, Any]) -> str:
    """What a report says, in a line."""
    if not report:
        return "no report. "
    cases, operations = report["test_cases"], report["operations"]
    errors = ", ".join(f"{error['count']} {error['title']}" for error in report["errors"]) or "none"
    return (
        f"{operations['tested']} of {operations['total']} paths, {cases['generated']} cases, {len(report['failures'])} "
        f"failures, errors: {errors}, {report['running_time']:.0f} s, ended: {report['stop_reason']}. "
    )


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
