"""Keeps control-token text in messages apart from the markers that a chat template writes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gemcut.errors import UsageError

_PRIVATE_USE = range(0xE000, 0xF900)
# A role chooses what the template does and may be part of the marker it writes ("<|" + role + "|>").
_ROLE = "role"


class MessageGuard:
    """Hides what a template's input has of control tokens, so that only the template's own text has any.

    Where a control token stands in a text, and where the text's end could begin one that the template's own text then
    completes (or its start end one), one character is exchanged for a private-use character that occurs in no input.
    The length of the text, its white space and everything else stay, so templates trim and compare as ever.

    Args:
        markers: Texts of the control tokens.
    """

    def __init__(self, markers: Iterable[str]) -> None:
        self._markers = frozenset(marker for marker in markers if marker)
        self._lengths: dict[str, list[int]] = {}
        for marker in self._markers:
            self._lengths.setdefault(marker[0], []).append(len(marker))
        self._lengths = {first: sorted(set(lengths)) for first, lengths in self._lengths.items()}
        # Only markers in brackets can be met half: of a plain word, half is a word.
        bracketed = [marker for marker in self._markers if marker[0] in "<[" and marker[-1] in ">]"]
        self._ends = {marker[-1] for marker in bracketed}
        self._prefixes = {marker[:size] for marker in bracketed for size in range(1, len(marker))}
        self._suffixes = {marker[size:] for marker in bracketed for size in range(1, len(marker))}
        self._longest = max(map(len, bracketed), default=0)

    def disguise(self, inputs: Any) -> Disguise:
        """Stand-ins that occur nowhere in `inputs`, nested lists and mappings of texts.

        Raises:
            UsageError: the inputs use up all private-use characters.
        """
        wanted = sorted(self._lengths.keys() | self._ends)
        used: set[str] = set().union(*map(set, _texts(inputs)))
        unused = (character for character in map(chr, _PRIVATE_USE) if character not in used)
        free = list(itertools.islice(unused, len(wanted) + 1))
        if len(free) <= len(wanted):
            raise UsageError("messages: they hold every private-use character (U+E000 to U+F8FF), expected some free.")
        return Disguise(self, dict(zip(wanted, free, strict=False)), free[-1])

    def weak_places(self, text: str) -> Iterator[int]:
        """Positions of the characters to hide so that `text` has no part in any control token."""
        for start, character in enumerate(text):
            lengths = self._lengths.get(character)
            if lengths and any(text[start : start + length] in self._markers for length in lengths):
                yield start
        # Templates trim, so white space around the text does not count.
        end = len(text.rstrip())
        yield from (i for i in range(max(0, end - self._longest), end) if text[i:end] in self._prefixes)
        first = len(text) - len(text.lstrip())
        yield from (i for i in range(first, min(end, first + self._longest)) if text[first : i + 1] in self._suffixes)


class Disguise:
    """One choice of stand-ins: hides and restores.

    Attributes:
        unused: A character that is in no input and is no stand-in.
    """

    def __init__(self, guard: MessageGuard, stand_ins: dict[str, str], unused: str) -> None:
        self._guard = guard
        self.unused = unused
        self._stand_ins = stand_ins
        self._restore = str.maketrans({stand_in: character for character, stand_in in stand_ins.items()})

    def hide(self, value: Any, key: Any = None) -> Any:
        """A copy of `value`, a text or nested lists and mappings of texts, with control-token text hidden."""
        if isinstance(value, str):
            return value if key == _ROLE and value.isidentifier() else self._hide_text(value)
        if isinstance(value, Mapping):
            return {self.hide(name): self.hide(entry, name) for name, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide(entry) for entry in value]
        return value

    def restore(self, text: str) -> str:
        """`text` with everything hidden in it brought back."""
        return text.translate(self._restore)

    def _hide_text(self, text: str) -> str:
        if not any(character in text for character in self._stand_ins):
            return text
        characters = list(text)
        for position in self._guard.weak_places(text):
            characters[position] = self._stand_ins[text[position]]
        return "".join(characters)


def _texts(value: Any) -> Iterator[str]:
    """Every text inside nested lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _texts(name)
            yield from _texts(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry)
