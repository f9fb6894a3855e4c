"""Whose turn it is: sequences that wait, in an order that is fair between clients and between their requests."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Iterable, Iterator

from gemcut.generate.sequence import Sequence


@dataclasses.dataclass
class _Party:
    """A client, or one request of a client, as long as any of its sequences waits or runs.

    Attributes:
        key: In the queue's table.
        since: When it came, or when the last of its sequences ended.
        num_running, num_waiting: Its sequences.
    """

    key: tuple[Hashable, ...]
    since: int
    num_running: int = 0
    num_waiting: int = 0


class FairQueue:
    """Sequences that wait for their turn, and how much their owners have running.

    The next one is of the client that has the fewest running; of several such, of the one that came, or whose last
    sequence ended, the longest ago. Among the requests of a client it is the same, and those of one request go in
    their order. So whoever wants many takes turns with whoever comes, and nobody waits for ever: a client whose
    sequences have all ended goes before every one that comes later.
    """

    def __init__(self) -> None:
        self._waiting: dict[Sequence, tuple[_Party, _Party]] = {}
        self._running: dict[Sequence, tuple[_Party, _Party]] = {}
        self._parties: dict[tuple[Hashable, ...], _Party] = {}
        self._clock = itertools.count()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._waiting)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._waiting

    def add(self, sequence: Sequence, client: Hashable = None, request: Hashable = None) -> None:
        """Let a sequence wait, for a client and its request; those without either are all of the same."""
        self._waiting[sequence] = owners = self._party((client,)), self._party((client, request))
        for party in owners:
            party.num_waiting += 1

    def in_turn(self, among: Iterable[Sequence] | None = None) -> list[Sequence]:
        """Those that wait, or some of them, the next one first; whenever one begins, the others' order changes."""
        return sorted(self._waiting if among is None else among, key=self._turn)

    def begin(self, sequence: Sequence) -> None:
        """Its turn has come: it runs."""
        self._running[sequence] = owners = self._waiting.pop(sequence)
        for party in owners:
            party.num_waiting -= 1
            party.num_running += 1

    def end(self, sequence: Sequence) -> None:
        """Forget a sequence that waits or runs."""
        if sequence in self._running:
            for party in self._running.pop(sequence):
                party.num_running -= 1
                party.since = next(self._clock)
                self._forget(party)
        else:
            for party in self._waiting.pop(sequence):
                party.num_waiting -= 1
                self._forget(party)

    def _party(self, key: tuple[Hashable, ...]) -> _Party:
        party = self._parties.get(key)
        if party is None:
            party = self._parties[key] = _Party(key, next(self._clock))
        return party

    def _forget(self, party: _Party) -> None:
        if not party.num_running and not party.num_waiting:
            del self._parties[party.key]

    def _turn(self, sequence: Sequence) -> tuple[int, ...]:
        client, request = self._waiting[sequence]
        return client.num_running, client.since, request.num_running, request.since
