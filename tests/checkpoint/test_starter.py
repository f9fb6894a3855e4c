"""The real starter model: every tensor against the gguf package."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize

from gemcut.checkpoint import open_checkpoint
from gemcut.config import PUBLISHED


def test_every_tensor_is_the_gguf_packages(starter_path: Path) -> None:
    reference = {tensor.name: tensor for tensor in gguf.GGUFReader(starter_path).tensors}
    with open_checkpoint(starter_path) as checkpoint:
        assert checkpoint.config == PUBLISHED["gemma-3-270m"].config
        assert (len(checkpoint.tensors), checkpoint.unused, checkpoint.quantized) == (236, [], True)
        stored_types = {tensor.stored_type for tensor in checkpoint.tensors.values()}
        assert stored_types == {"F32", "Q4_K", "Q5_0", "Q6_K", "Q8_0"}
        assert {tensor.source_name for tensor in checkpoint.tensors.values()} == set(reference)
        for tensor in checkpoint.tensors.values():
            theirs = reference[tensor.source_name]
            rows = slice(0, 4096)  # all but the embedding have fewer
            expected = dequantize(theirs.data[rows], theirs.tensor_type)
            if "norm" in tensor.source_name:
                expected = expected - np.float32(1)
            assert tensor.shape == tuple(theirs.shape[::-1].tolist())
            assert np.array_equal(tensor.read()[rows], expected), tensor.name
