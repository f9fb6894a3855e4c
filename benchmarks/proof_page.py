"""The chat page in a real browser, and its pictures in docs/images (three minutes).

    python benchmarks/proof_page.py

Needs Chromium (Debian's package `chromium`); its driver and the accessibility checker axe come from .venv-page. Kept in
benchmarks/results/page.json: how many tests passed, and the states in which axe found nothing.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = "tests/serve/page"
# The pictures that documents show: state, then profile.
SHOWN = [f"chat-{width}-{theme}.png" for width in ("wide", "phone") for theme in ("light", "dark")]
MAX_PICTURE_BYTES = 200_000


def main() -> None:
    """Run the tests, keep their outcome and the pictures; exit code 1 if any failed or was skipped."""
    [packages] = (ROOT / ".venv-page" / "lib").glob("python*/site-packages")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "pytest", "-q", TESTS, f"--junitxml={folder / 'report.xml'}"]
        environment = {**os.environ, "PYTHONPATH": str(packages), "GEMCUT_PAGE_IMAGES": str(folder)}
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        if code > 1:
            sys.exit(code)
        outcome = xml.etree.ElementTree.parse(folder / "report.xml")
        cases = list(outcome.iter("testcase"))
        failed = [case.get("name") for case in cases if len(case.findall("failure") + case.findall("error"))]
        skipped = [case.get("name") for case in cases if case.find("skipped") is not None]
        report = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": "make proof-page",
            "versions": {
                **{entry.get("name"): entry.get("value") for entry in outcome.iter("property")},
                **{name: version(packages, name) for name in ("playwright", "axe_playwright_python")},
            },
            "passed": len(cases) - len(failed) - len(skipped),
            "failed": failed,
            "skipped": skipped,
            "states": sorted(path.stem for path in folder.glob("*.png")),
        }
        (ROOT / "benchmarks" / "results" / "page.json").write_text(json.dumps(report, indent=1) + "\n")
        if failed or skipped:
            sys.exit(f"{len(failed)} tests failed, {len(skipped)} were skipped.")
        keep_pictures(folder)


def version(packages: Path, name: str) -> str:
    """Version of what is installed there."""
    [folder] = packages.glob(f"{name}-*.dist-info")
    return folder.name.removeprefix(f"{name}-").removesuffix(".dist-info")


def keep_pictures(folder: Path) -> None:
    """Put the pictures that documents show in docs/images."""
    images = ROOT / "docs" / "images"
    images.mkdir(exist_ok=True)
    for name in SHOWN:
        num_bytes = (folder / name).stat().st_size
        if num_bytes > MAX_PICTURE_BYTES:
            sys.exit(f"{name} has {num_bytes:,} bytes, expected at most {MAX_PICTURE_BYTES:,}.")
        shutil.copy(folder / name, images / name)


if __name__ == "__main__":
    main()
