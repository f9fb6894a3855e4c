"""Stop strings that may begin in one piece of text and end in another."""

from __future__ import annotations

from collections.abc import Sequence

from gemcut.errors import UsageError


class StopStrings:
    """Cuts a growing text before a stop string; holds back what could still become one.

    The stop string that is complete first counts, of several that end at the same place the longest, so the cut does
    not depend on where the pieces end.

    Args:
        stops: Non-empty strings.

    Attributes:
        found: The stop string that ended the text; None until one did.

    Raises:
        UsageError: a stop string is empty.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        if any(not stop for stop in stops):
            raise UsageError("stop: a stop string is empty, expected at least one character.")
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """Text that is safe to show now that `text` follows; nothing more once one is `found`."""
        if self.found is not None:
            return ""
        if not self._stops:
            return text
        text, self._held = self._held + text, ""
        matches = [(text.find(stop) + len(stop), text.find(stop), stop) for stop in self._stops if stop in text]
        if matches:
            _, begin, self.found = min(matches)
            return text[:begin]
        keep = max((self._overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back, now that no more text follows."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Length of the longest end of `text` that is a beginning of `stop`, shorter than `stop`."""
        for length in range(min(len(text), len(stop) - 1), 0, -1):
            if stop.startswith(text[len(text) - length :]):
                return length
        return 0
