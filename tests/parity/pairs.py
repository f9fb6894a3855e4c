"""Runs of training in two processes on this machine, one of which may be killed: what tests and the proof share."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from killing import Job

PATIENCE_SECONDS = 300.0


class Pair(Job):
    """Two processes."""

    def start(self, folder: Path) -> list[subprocess.Popen[str]]:
        """Begin the run in a folder, or go on with it; the first process, which says where it is, and the other."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        environments = [
            os.environ | {"GEMCUT_COORDINATOR": address, "GEMCUT_NUM_PROCESSES": "2", "GEMCUT_PROCESS_ID": str(number)}
            for number in range(2)
        ]
        return [
            subprocess.Popen(
                self.command(folder),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for environment in environments
        ]

    def finish(self, folder: Path) -> bytes:
        """Let it come to its end; the adapter's bytes."""
        processes = self.start(folder)
        for process, output, errors in zip(processes, *_ended(processes), strict=True):
            assert output.endswith("done finished\n"), errors[-2000:]
            assert process.returncode == 0, errors[-2000:]
        return (folder / "adapter" / "adapter_model.safetensors").read_bytes()

    def stop(self, folder: Path, victim: int, how: signal.Signals, moments: random.Random) -> tuple[int, list[str]]:
        """Send a signal to one process at a random moment; the step that it was in, and what both said at their end.

        Args:
            folder: The run's.
            victim: 0 or 1.
            how: The signal.
            moments: Of randomness.
        """
        processes, reached = self.start(folder), None
        try:
            reached = _line_of(processes[0], moments.randrange(2, 14))
            time.sleep(moments.random() * 0.02)
            processes[victim].send_signal(how)
        finally:
            outputs, errors = _ended(processes, PATIENCE_SECONDS if reached is not None else 0.0)
        assert reached is not None, f"the run was over before its end: {errors[0][-2000:]}"
        return reached, [output + error for output, error in zip(outputs, errors, strict=True)]


def _line_of(process: subprocess.Popen[str], number: int) -> int | None:
    """The step in a line that a process writes; None where it ends before that."""
    assert process.stdout
    for line in process.stdout:
        stage, _, step = line.strip().partition(" ")
        if stage == "done":
            return None
        number -= 1
        if not number:
            return int(step)
    return None


def _ended(processes: list[subprocess.Popen[str]], patience: float = PATIENCE_SECONDS) -> tuple[list[str], list[str]]:
    """What processes write until their end, which comes in time or is made."""
    killer = threading.Timer(patience, lambda: [process.kill() for process in processes])
    killer.start()
    try:
        said = [process.communicate() for process in processes]
    finally:
        killer.cancel()
    return [output for output, _ in said], [errors for _, errors in said]
