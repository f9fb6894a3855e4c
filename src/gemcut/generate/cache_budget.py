"""How much memory running texts may take: keys, values, and what is kept aside of them."""

from __future__ import annotations

from typing import Any

from gemcut.errors import ContextLengthError


class CacheBudget:
    """Counts the bytes that running texts may come to need, so that none begins that cannot finish.

    Args:
        limit: Bytes of all together; None for no limit but the machine's.

    Attributes:
        limit: As given.
        used: Bytes taken now.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.used = 0
        self._taken: dict[Any, int] = {}

    def check(self, num_bytes: int, num_tokens: int) -> None:
        """Refuse what would never fit.

        Raises:
            ContextLengthError: a text of `num_tokens` tokens needs more than everything there is.
        """
        if self.limit is not None and num_bytes > self.limit:
            raise ContextLengthError(
                f"prompt: with its answer it may have {num_tokens} tokens, which take {num_bytes} bytes of memory, but "
                f"all texts together have {self.limit}. Shorten it or ask for fewer tokens."
            )

    def has_room(self, num_bytes: int) -> bool:
        """Whether so many bytes are free."""
        return self.limit is None or self.used + num_bytes <= self.limit

    def take(self, owner: Any, num_bytes: int) -> None:
        """Count bytes as taken until `give_back`; once for each owner."""
        self._taken[owner] = num_bytes
        self.used += num_bytes

    def give_back(self, owner: Any) -> None:
        """Count an owner's bytes as free again; nothing for one that has none."""
        self.used -= self._taken.pop(owner, 0)
