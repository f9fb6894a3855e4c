"""Checks on documents: links lead somewhere, code blocks are runnable or say why not, no machine's names.

A fenced `python` or `console` block is run by tests/test_docs.py. One that cannot be run has the comment
`<!-- not run: REASON -->` on the line before its fence.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from doc_blocks import blocks  # noqa: E402

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
# Groups keep the patterns from finding themselves.
FORBIDDEN = {
    "a path of one machine": re.compile(r"/(?:work)/|/(?:root)/\.?\w|/(?:home)/\w+/"),
    "a package registry's host": re.compile(
        r"(?:pypi)\.org|(?:pythonhosted)\.org|registry\.(?:npmjs)|deb\.(?:debian)|download\.(?:pytorch)"
    ),
}
TEXT = {".md", ".py", ".toml", ".txt", ".ipynb", ".json", ".yml", ".yaml", ".cfg", ".sh", ".jinja", ""}


def main() -> int:
    """Print every problem; 1 when there is one."""
    problems: list[str] = []
    for path in repository_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        where = path.relative_to(ROOT)
        problems += [f"{where}:{problem}" for problem in forbidden_words(text)]
        if path.suffix == ".md":
            problems += [f"{where}:{problem}" for problem in broken_links(path, text)]
            problems += [f"{where}:{problem}" for problem in bad_blocks(text)]
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return 1 if problems else 0


def repository_files() -> list[Path]:
    """Text files that git keeps or would keep."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and path.suffix in TEXT]


def forbidden_words(text: str) -> Iterator[str]:
    """Lines that name a machine's own folders or a package registry's host."""
    for number, line in enumerate(text.splitlines(), 1):
        for what, pattern in FORBIDDEN.items():
            if match := pattern.search(line):
                yield f"{number}: {match.group()!r} is {what}."


def broken_links(path: Path, text: str) -> Iterator[str]:
    """Relative links of a Markdown file that lead nowhere."""
    for number, line in enumerate(text.splitlines(), 1):
        for target in LINK.findall(line):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            destination = (path.parent / name).resolve() if name else path
            if not destination.exists():
                yield f"{number}: the link {target} leads nowhere."
            elif anchor and destination.suffix == ".md" and anchor not in anchors(destination):
                yield f"{number}: {destination.name} has no heading for #{anchor}."


def anchors(path: Path) -> set[str]:
    """The anchors that a forge makes of a Markdown file's headings."""
    headings = re.findall(r"^#+ +(.+?) *$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def bad_blocks(text: str) -> Iterator[str]:
    """Python blocks that do not compile, console blocks without a command, reasons left empty."""
    for block in blocks(text):
        if block.not_run is not None:
            if not block.not_run:
                yield f"{block.line}: `not run` gives no reason."
        elif block.language == "python":
            try:
                compile(block.code, "block", "exec")
            except SyntaxError as error:
                yield f"{block.line}: the block does not compile: {error.msg}."
        elif block.language == "console" and not block.sessions():
            yield f"{block.line}: a console block needs lines that begin with `$ `."


if __name__ == "__main__":
    sys.exit(main())
