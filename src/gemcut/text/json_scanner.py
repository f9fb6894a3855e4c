"""Where a JSON object ends, in a text that comes in pieces."""

from __future__ import annotations

import re

_SPACE = " \t\r\n"
_WORD = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|true|false|null")
_WORD_CHARACTERS = frozenset("+-.0123456789Eaeflnrstu")
_HEX = frozenset("0123456789abcdefABCDEF")
MAX_DEPTH = 100


class JsonObjectScanner:
    """Follows one JSON object, character by character, and stops where it ends or is none any more.

    Attributes:
        is_done: The object has ended.
        is_broken: A character was met that no JSON object has there, or more than 100 levels of nesting.
    """

    def __init__(self) -> None:
        self.is_done = self.is_broken = False
        self._open: list[str] = []  # the brackets that would close what is open
        self._wanted = "object"
        self._word = ""
        self._in_string = False
        self._escape = 0  # characters of an escape still to come; 5 right after the backslash

    def push(self, text: str) -> int:
        """How many characters of `text` belong to the object; fewer than all where it is done or broken."""
        for position, character in enumerate(text):
            if self.is_done or not self._take(character):
                return position
        return len(text)

    def _take(self, character: str) -> bool:
        if self._in_string:
            return self._take_in_string(character)
        if self._word:
            if character in _WORD_CHARACTERS:
                self._word += character
                return True
            if not _WORD.fullmatch(self._word):
                return self._break()
            self._word, self._wanted = "", "end"
        if character in _SPACE:
            return True
        return self._take_structure(character) or self._break()

    def _take_in_string(self, character: str) -> bool:
        if self._escape == 5:
            if character not in '"\\/bfnrtu':
                return self._break()
            self._escape = 4 if character == "u" else 0
        elif self._escape:
            if character not in _HEX:
                return self._break()
            self._escape -= 1
        elif character == "\\":
            self._escape = 5
        elif character == '"':
            self._in_string = False
            self._wanted = "colon" if self._wanted in ("key", "key or end") else "end"
        elif character < " ":
            return self._break()
        return True

    def _take_structure(self, character: str) -> bool:
        wanted = self._wanted
        if character == '"' and wanted in ("key", "key or end", "value", "value or end"):
            self._in_string = True
        elif character == "{" and wanted in ("object", "value", "value or end") and len(self._open) < MAX_DEPTH:
            self._open.append("}")
            self._wanted = "key or end"
        elif character == "[" and wanted in ("value", "value or end") and len(self._open) < MAX_DEPTH:
            self._open.append("]")
            self._wanted = "value or end"
        elif character == ":" and wanted == "colon":
            self._wanted = "value"
        elif character == "," and wanted == "end":
            self._wanted = "key" if self._open[-1] == "}" else "value"
        elif self._open and character == self._open[-1] and wanted in ("end", "key or end", "value or end"):
            self._open.pop()
            self._wanted = "end"
            self.is_done = not self._open
        elif character in _WORD_CHARACTERS and wanted in ("value", "value or end"):
            self._word = character
        else:
            return False
        return True

    def _break(self) -> bool:
        self.is_broken = True
        return False
