"""How much memory a run takes."""

from __future__ import annotations

import resource
import sys


def peak_memory_bytes() -> int:
    """The most memory that this process had in use so far; on an accelerator its own is not counted."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
