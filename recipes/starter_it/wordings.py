"""In how many ways people say a wish about the form of an answer; how wordings.yaml is read, its first lines say."""

from __future__ import annotations

import random
import re
from pathlib import Path

import yaml

_READ = yaml.safe_load(Path(__file__).with_name("wordings.yaml").read_text())
PARTS: dict[str, str] = _READ["parts"]
WORDINGS: dict[str, list[str]] = _READ["wordings"]
INLINE = ("in", "with", "without", "using", "and", "as")


def say(kind: str, draw: random.Random, **fields: object) -> str:
    """One of the wordings of a kind of wish, filled in.

    Args:
        kind: A name of `WORDINGS`.
        draw: What chooses.
        fields: What the kind is about: `n`, `word`, ...
    """
    text = draw.choice(WORDINGS[kind])
    while found := re.search(r"\$([a-z_]+)", text):
        text = text[: found.start()] + PARTS[found[1]] + text[found.end() :]
    text = text.replace("(s)", "\0")
    while found := re.search(r"\(([^()]*\|[^()]*)\)", text):
        text = text[: found.start()] + draw.choice(found[1].split("|")) + text[found.end() :]
    text = re.sub(r" +", " ", text.replace("\0", "s" if "," in str(fields.get("listed")) else "")).strip()
    inline = text.split()[0] in INLINE and not text.endswith(".")
    return (text if inline else text[0].upper() + text[1:]).format_map(fields)
