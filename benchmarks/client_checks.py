"""What a client script tells proof_clients.py: each call by name, and whether it was answered as it must be."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


class Checks:
    """Calls that were made and what came of them."""

    def __init__(self) -> None:
        self._found: list[dict[str, Any]] = []

    def works(self, name: str, call: Callable[[], Any]) -> Any:
        """Note a call that must return something true; gives it back, or None."""
        try:
            value = call()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            self._note(name, False, f"{type(error).__name__}: {error}")
            return None
        self._note(name, bool(value), repr(value))
        return value

    def refused(self, name: str, kind: type[Exception], call: Callable[[], Any], word: str = "") -> None:
        """Note a call that must raise `kind`, with `word` in its message."""
        try:
            value = call()
        except kind as error:
            self._note(name, word in str(error), str(error))
        except Exception as error:  # noqa: BLE001 - as above
            self._note(name, False, f"{type(error).__name__}: {error}")
        else:
            self._note(name, False, f"no {kind.__name__} but {value!r}")

    def tell(self) -> None:
        """Print everything as one line of JSON."""
        print(json.dumps(self._found))

    def _note(self, name: str, passed: bool, found: str) -> None:
        self._found.append({"name": name, "passed": passed, "found": found[:400]})
