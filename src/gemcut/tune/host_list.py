"""Slurm's short lists of hosts, such as "node[01-03,7],other-a", as names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from gemcut.errors import UsageError

_MAX_HOSTS = 100_000
_PART = r"(?:[^,\[\]]|\[[^\[\]]*\])+"


def hosts_of(text: str, where: str) -> list[str]:
    """The names that a list means, in its order.

    Args:
        text: The list.
        where: The variable it stands in.

    Raises:
        UsageError: it is empty or cannot be read.
    """
    try:
        names = [name for part in _parts(text) for name in _expanded(part)]
    except ValueError:
        names = []
    if not names or not all(names):
        raise UsageError(f"{where}: {text!r:.80} is no list of hosts, expected one such as node[01-03],other.")
    return names


def _parts(text: str) -> list[str]:
    """A list cut at its commas, but for those in brackets."""
    if not re.fullmatch(f"{_PART}(,{_PART})*", text):
        raise ValueError(text)
    return re.findall(_PART, text)


def _expanded(part: str) -> Iterator[str]:
    """All names that a part with ranges in brackets means."""
    pieces = re.split(r"\[([^\]]*)\]", part)
    choices = [list(_ranges(piece)) if index % 2 else [piece] for index, piece in enumerate(pieces)]
    return itertools.islice(("".join(chosen) for chosen in itertools.product(*choices)), _MAX_HOSTS)


def _ranges(text: str) -> Iterator[str]:
    """Numbers of "01-03,7", as wide as they are written."""
    for each in text.split(","):
        first, _, last = each.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            raise ValueError(text)
        for number in range(int(first), min(int(last or first), int(first) + _MAX_HOSTS) + 1):
            yield str(number).zfill(len(first))
