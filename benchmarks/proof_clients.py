"""Real clients, unmodified, against `gemcut serve`: openai for Python and Node, LangChain (a minute or two).

    python benchmarks/proof_clients.py [openai] [langchain] [node]

The last two run in .venv-clients. What each finds replaces what it found before: benchmarks/results/serve-clients.json.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import subprocess
import sys
from typing import Any

from engine_models import HERE
from run import machine
from server_process import gemcut_server

ENVIRONMENT = HERE.parent / ".venv-clients"
KEY = "a key that only the proof knows"
# Each with its program, its script and its package.
CLIENTS: dict[str, tuple[str, str, str]] = {
    "openai": (sys.executable, "client_openai.py", "openai"),
    "langchain": (str(ENVIRONMENT / "bin" / "python"), "client_langchain.py", "langchain-openai"),
    "node": ("node", "client_openai.mjs", "openai"),
}
CLIENT_SECONDS = 900


def main() -> None:
    """Run the clients, print what failed, keep all; exit code 1 if anything failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=f"out of {', '.join(CLIENTS)}")
    names = parser.parse_args().clients or list(CLIENTS)
    path = HERE / "results" / "serve-clients.json"
    kept = json.loads(path.read_text())["clients"] if path.is_file() else {}
    failed = 0
    with gemcut_server("starter", "--context", "4096", "--quiet", api_key=KEY) as server:
        for name in names:
            checks = found(name, f"http://{server.address.host}:{server.address.port}/v1")
            wrong = [check for check in checks if not check["passed"]]
            failed += len(wrong)
            print(f"{name:<10} {len(checks) - len(wrong)} of {len(checks)} passed")
            for check in wrong:
                print(f"    {check['name']}: {check['found']}")
            kept[name] = {
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "command": f"python benchmarks/proof_clients.py {name}",
                "version": version(name),
                "passed": len(checks) - len(wrong),
                "failed": len(wrong),
                "checks": checks,
            }
    report = {"versions": {"gemcut": importlib.metadata.version("gemcut")}, "machine": machine(), "clients": kept}
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    sys.exit(1 if failed else 0)


def found(name: str, url: str) -> list[dict[str, Any]]:
    """What a client script tells; a script that fails is a finding too."""
    program, script, _ = CLIENTS[name]
    command = [program, str(HERE / script), url, KEY, str(ENVIRONMENT / "node")]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=CLIENT_SECONDS)
    lines = result.stdout.strip().splitlines()
    if result.returncode or not lines:
        return [{"name": "the script", "passed": False, "found": result.stderr[-2000:]}]
    checks: list[dict[str, Any]] = json.loads(lines[-1])
    return checks


def version(name: str) -> str:
    """Of the client's package."""
    program, _, package = CLIENTS[name]
    if name == "node":
        manifest = ENVIRONMENT / "node" / "node_modules" / package / "package.json"
        return str(json.loads(manifest.read_text())["version"])
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([program, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


if __name__ == "__main__":
    main()
