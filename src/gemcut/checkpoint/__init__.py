"""Checkpoints on disk: formats, weight-name tables, opening, checking and converting."""

from gemcut.checkpoint.checkpoint import Checkpoint, open_checkpoint
from gemcut.checkpoint.conversion_report import ConversionReport
from gemcut.checkpoint.convert import convert
from gemcut.checkpoint.lazy_tensor import LazyTensor

__all__ = ["Checkpoint", "ConversionReport", "LazyTensor", "convert", "open_checkpoint"]
