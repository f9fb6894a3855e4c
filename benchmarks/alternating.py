"""Two programs measured by turns: the only way to compare speeds on a shared, noisy machine."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

SETTLE_SECONDS = 0.5  # thread pools of the other program go to sleep


class Worker:
    """A child process that answers one measured run for each request line.

    Args:
        name: For the table.
        command: Its command line.
        environment: Added to this process's own.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.versions: dict[str, Any] = self._answer()["ready"]

    def run(self, prompt_ids: Sequence[int], new_tokens: int) -> dict[str, Any]:
        """One run: {"seconds", "token_ids"}."""
        return self.ask([list(prompt_ids), new_tokens])

    def ask(self, request: Any) -> dict[str, Any]:
        """Send one line of JSON, wait for the answer's."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        self._errors.seek(0)
        raise RuntimeError(
            f"{self.name}: ended with {self._process.wait()} and no answer: {self._errors.read()[-2000:]}"
        )


@dataclasses.dataclass
class Comparison:
    """Figures of one kind of work, ours and the peer's, in the order they were taken.

    Attributes:
        work: Its name.
        tokens: Tokens that the speed counts.
        ours, peers: Seconds of each round.
    """

    work: str
    tokens: int
    ours: list[float] = dataclasses.field(default_factory=list)
    peers: list[float] = dataclasses.field(default_factory=list)

    def add(self, ours: Worker, peer: Worker, prompt_ids: Sequence[int], new_tokens: int, rounds: int) -> bool:
        """Run the same work by turns, after one run each that is not counted; who goes first changes.

        Args:
            ours, peer: The two programs.
            prompt_ids: The prompt.
            new_tokens: Tokens to generate.
            rounds: Measured rounds.

        Returns:
            Whether both generated the same tokens.
        """
        first = self.add_request(ours, peer, [list(prompt_ids), new_tokens], rounds)
        return bool(first[0]["token_ids"] == first[1]["token_ids"])

    def add_request(self, ours: Worker, peer: Worker, request: Any, rounds: int) -> list[dict[str, Any]]:
        """Like add(), for any request that is answered with "seconds"; returns both answers that are not counted."""
        first = [worker.ask(request) for worker in (ours, peer)]
        figures = {ours.name: self.ours, peer.name: self.peers}
        for index in range(rounds):
            for worker in (ours, peer) if index % 2 == 0 else (peer, ours):
                time.sleep(SETTLE_SECONDS)
                figures[worker.name].append(worker.ask(request)["seconds"])
        return first

    @property
    def ratio(self) -> float:
        """Median over the rounds of the peer's time divided by ours: above 1 means that we are faster."""
        return statistics.median(peer / our for our, peer in zip(self.ours, self.peers, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Everything, with the median speeds."""
        return {
            "work": self.work,
            "ratio": self.ratio,
            "ours_tokens_per_second": self.tokens / statistics.median(self.ours),
            "peer_tokens_per_second": self.tokens / statistics.median(self.peers),
            "ours_seconds": self.ours,
            "peer_seconds": self.peers,
        }
