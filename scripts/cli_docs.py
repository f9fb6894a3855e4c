"""docs/cli.md, written from the --help pages; with --check, compares and writes nothing."""

from __future__ import annotations

import sys
from pathlib import Path

from typer.testing import CliRunner

from gemcut.cli import app

TARGET = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
HEADER = """# Command line

Written by `make docs` from the `--help` pages; do not edit.
"""


def main() -> int:
    """Write the page, or say that it differs."""
    page = render()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(page, encoding="utf-8")
        return 0
    if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == page:
        return 0
    print("docs/cli.md differs from the --help pages. Run: make docs", file=sys.stderr)
    return 1


def render() -> str:
    """The page: the command's help, then that of each sub-command."""
    names = [command.name for command in app.registered_commands if command.name]
    sections = [HEADER, section("gemcut", ["--help"])]
    sections += [section(f"gemcut {name}", [name, "--help"]) for name in names]
    return "\n".join(sections)


def section(title: str, arguments: list[str]) -> str:
    """One help page as a section."""
    result = CliRunner(env={"COLUMNS": "100", "TERM": "dumb"}).invoke(app, arguments, prog_name="gemcut")
    if result.exit_code:
        raise SystemExit(f"{title} --help ended with {result.exit_code}: {result.output}")
    text = "\n".join(line.rstrip() for line in result.output.rstrip().splitlines())
    return f"## {title}\n\n```text\n{text}\n```\n"


if __name__ == "__main__":
    sys.exit(main())
