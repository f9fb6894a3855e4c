"""Tensors from one file into another: made on all cores, written in order, hashed on the way."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from gemcut.checkpoint.hashed_file import HashedFile
from gemcut.checkpoint.recoding import Chunk, Recoding
from gemcut.files import forget_pages
from gemcut.machine import usable_cores

Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class FilePlan:
    """A file to be written.

    Attributes:
        name: In the target's folder.
        header: What comes first.
        tensors: What follows, in order.
        alignment: Each tensor is followed by zeros up to a multiple of this many bytes.
    """

    name: str
    header: bytes
    tensors: Sequence[Recoding] = ()
    alignment: int = 1

    @property
    def num_bytes(self) -> int:
        """Bytes of the file."""
        return len(self.header) + sum(t.num_bytes + self._padding(t) for t in self.tensors)

    def _padding(self, tensor: Recoding) -> int:
        return -tensor.num_bytes % self.alignment

    def write(self, path: Path, progress: Callable[[str, int], None]) -> tuple[str, list[tuple[int, int]]]:
        """Write the file and wait for the disk.

        Args:
            path: Where to.
            progress: Called with a tensor's name and the bytes written since the last call.

        Returns:
            SHA-256 in hexadecimal; for each tensor how many numbers overflowed, and how many vanished.

        Raises:
            CheckpointError: a number is NaN or infinite.
        """
        counts = [[0, 0] for _ in self.tensors]
        with HashedFile(path) as file, contextlib.closing(_made(self.tensors)) as made:
            file.write(self.header)
            progress(self.name, len(self.header))
            for index, chunk, is_last in made:
                tensor = self.tensors[index]
                file.write(chunk.data)
                counts[index][0] += chunk.overflowed
                counts[index][1] += chunk.vanished
                if is_last:
                    file.write(bytes(self._padding(tensor)))
                    forget_pages(tensor.tensor.raw)
                progress(tensor.name, chunk.data.size + (self._padding(tensor) if is_last else 0))
            return file.finish(), [(overflowed, vanished) for overflowed, vanished in counts]


def _made(tensors: Sequence[Recoding]) -> Generator[tuple[int, Chunk, bool], None, None]:
    """(index of the tensor, chunk, whether it is the tensor's last) in order; a few are made ahead, on all cores."""
    num_threads = usable_cores()
    waiting: collections.deque[tuple[int, Future[Chunk], bool]] = collections.deque()

    def next_one() -> tuple[int, Chunk, bool]:
        index, future, is_last = waiting.popleft()
        return index, future.result(), is_last

    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for index, tensor in enumerate(tensors):
                calls = list(tensor.chunks())
                for number, call in enumerate(calls, 1):
                    waiting.append((index, pool.submit(call), number == len(calls)))
                    if len(waiting) > 2 * num_threads:
                        yield next_one()
            while waiting:
                yield next_one()
        finally:
            for _, future, _ in waiting:
                future.cancel()
