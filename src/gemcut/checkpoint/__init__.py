"""Checkpoints on disk: formats, weight-name tables, opening and checking."""

from gemcut.checkpoint.checkpoint import Checkpoint, open_checkpoint
from gemcut.checkpoint.lazy_tensor import LazyTensor

__all__ = ["Checkpoint", "LazyTensor", "open_checkpoint"]
