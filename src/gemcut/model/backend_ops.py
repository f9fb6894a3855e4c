"""The leaf operations of the active Keras backend."""

from __future__ import annotations

import functools
import importlib

import keras

from gemcut.model.leaf_ops import LeafOps


@functools.cache
def leaf_ops() -> LeafOps:
    """The leaf operations for the backend that this process runs Keras on."""
    module = importlib.import_module(f"gemcut.model.leaf_ops_{keras.backend.backend()}")
    return module.BackendOps()
