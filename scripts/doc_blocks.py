"""The fenced code blocks of a Markdown file."""

from __future__ import annotations

import dataclasses
import re

LANGUAGES = ("python", "console")
_BLOCK = re.compile(
    r"(?:^<!-- not run:(?P<reason>[^\n]*?)-->\n)?^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: "python" or "console".
        code: What is between the fences.
        line: Line of the opening fence, from 1.
        not_run: Why it is not run; None when it is.
    """

    language: str
    code: str
    line: int
    not_run: str | None = None

    def sessions(self) -> list[tuple[str, str]]:
        """The commands of a console block (lines that begin with `$ `), each with the output shown below it."""
        found: list[tuple[str, str]] = []
        for line in self.code.replace("\\\n", "").splitlines():
            if line.startswith("$ "):
                found.append((line[2:], ""))
            elif found:
                found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
        return found


def blocks(text: str) -> list[Block]:
    """The Python and console blocks of a Markdown text, in order."""
    found = []
    for match in _BLOCK.finditer(text):
        if match["language"] in LANGUAGES:
            line = text.count("\n", 0, match.start("language")) + 1
            reason = match["reason"]
            found.append(Block(match["language"], match["code"], line, None if reason is None else reason.strip()))
    return found
