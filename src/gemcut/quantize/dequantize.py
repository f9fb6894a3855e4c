"""Stored blocks of weights to float32, float16 or bfloat16, bit for bit the values that ggml defines.

Every decoder takes blocks uint8 (B, block_bytes) and fills values float32 (B, block_values). The order of the
float operations is part of the format: it is the one of ggml's reference and of the gguf package.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from gemcut.machine import usable_cores
from gemcut.quantize.ggml_types import GGMLType

_CHUNK_VALUES = 256 * 1024  # 1 MiB of float32: chunk and temporaries stay in a core's cache
_THREAD_MIN_VALUES = 8 * _CHUNK_VALUES
_NIBBLE_SHIFTS = np.array([0, 4], np.uint8)[:, None]
_CRUMB_SHIFTS = np.array([0, 2, 4, 6], np.uint8)[:, None]
_BIT_SHIFTS = np.arange(8, dtype=np.uint8)[:, None]
# ggml's non-linear 4-bit codebook (kvalues_iq4nl).
_IQ4_NL_VALUES = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)


def _halves(blocks: np.ndarray, start: int) -> np.ndarray:
    """The float16 at byte `start` of each block, as float32 (B, 1)."""
    return blocks[:, start : start + 2].copy().view(np.float16).astype(np.float32)


def _decode_f32(blocks: np.ndarray, values: np.ndarray) -> None:
    values[...] = np.ascontiguousarray(blocks).view(np.float32)


def _decode_f16(blocks: np.ndarray, values: np.ndarray) -> None:
    values[...] = np.ascontiguousarray(blocks).view(np.float16)


def _decode_bf16(blocks: np.ndarray, values: np.ndarray) -> None:
    np.left_shift(np.ascontiguousarray(blocks).view(np.uint16), 16, out=values.view(np.uint32), dtype=np.uint32)


def _fill_nibbles(packed: np.ndarray, values: np.ndarray) -> None:
    """Low nibbles of 16 bytes become the first half of a block of 32, high nibbles the second."""
    np.copyto(values[:, :16], packed & 15)
    np.copyto(values[:, 16:], packed >> 4)


def _fill_five_bits(packed: np.ndarray, high_bits: np.ndarray, values: np.ndarray) -> None:
    """As `_fill_nibbles`, each value with a fifth bit from 4 little-endian bytes."""
    high = np.unpackbits(high_bits, axis=1, bitorder="little") << 4  # (B, 32)
    np.copyto(values[:, :16], (packed & 15) | high[:, :16])
    np.copyto(values[:, 16:], (packed >> 4) | high[:, 16:])


def _decode_q4_0(blocks: np.ndarray, values: np.ndarray) -> None:
    _fill_nibbles(blocks[:, 2:], values)
    values -= 8
    values *= _halves(blocks, 0)


def _decode_q4_1(blocks: np.ndarray, values: np.ndarray) -> None:
    _fill_nibbles(blocks[:, 4:], values)
    values *= _halves(blocks, 0)
    values += _halves(blocks, 2)


def _decode_q5_0(blocks: np.ndarray, values: np.ndarray) -> None:
    _fill_five_bits(blocks[:, 6:], blocks[:, 2:6], values)
    values -= 16
    values *= _halves(blocks, 0)


def _decode_q5_1(blocks: np.ndarray, values: np.ndarray) -> None:
    _fill_five_bits(blocks[:, 8:], blocks[:, 4:8], values)
    values *= _halves(blocks, 0)
    values += _halves(blocks, 2)


def _decode_q8_0(blocks: np.ndarray, values: np.ndarray) -> None:
    np.copyto(values, blocks[:, 2:].view(np.int8))
    values *= _halves(blocks, 0)


def _decode_iq4_nl(blocks: np.ndarray, values: np.ndarray) -> None:
    packed = blocks[:, 2:]
    values[:, :16] = _IQ4_NL_VALUES[packed & 15]
    values[:, 16:] = _IQ4_NL_VALUES[packed >> 4]
    values *= _halves(blocks, 0)


def _decode_q2_k(blocks: np.ndarray, values: np.ndarray) -> None:
    """16 groups of 16: 4-bit scale and minimum, 2-bit values."""
    groups = values.reshape(-1, 16, 16)
    packed = blocks[:, 16:80].reshape(-1, 2, 1, 32)
    np.copyto(values.reshape(-1, 2, 4, 32), (packed >> _CRUMB_SHIFTS) & 3)
    groups *= (_halves(blocks, 80) * (blocks[:, :16] & 15).astype(np.float32))[:, :, None]
    groups -= (_halves(blocks, 82) * (blocks[:, :16] >> 4).astype(np.float32))[:, :, None]


def _decode_q3_k(blocks: np.ndarray, values: np.ndarray) -> None:
    """16 groups of 16: 6-bit signed scale, 2-bit values; 4 is taken off where the mask bit is clear."""
    low = (blocks[:, None, 96:104] >> _NIBBLE_SHIFTS).reshape(-1, 16) & 15
    high = (blocks[:, None, 104:108] >> _CRUMB_SHIFTS).reshape(-1, 16) & 3
    scales = ((low | (high << 4)).astype(np.int8) - 32).astype(np.float32)
    two_bits = ((blocks[:, 32:96].reshape(-1, 2, 1, 32) >> _CRUMB_SHIFTS) & 3).reshape(-1, 8, 32)
    mask = (blocks[:, None, :32] >> _BIT_SHIFTS) & 1  # (B, 8, 32)
    np.copyto(values.reshape(-1, 8, 32), two_bits.view(np.int8) - ((mask ^ 1) << 2).view(np.int8))
    groups = values.reshape(-1, 16, 16)
    groups *= (_halves(blocks, 108) * scales)[:, :, None]


def _scales_and_minimums(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and minimum of the 8 groups of a Q4_K or Q5_K block, each float32 (B, 8, 1).

    Both are 6-bit numbers packed into bytes 4 to 15: four of each in the low bits of 4 + 4 bytes, the other
    four split between the nibbles of the last 4 bytes and the top bits of the first 8.
    """
    scale_bytes, minimum_bytes, split = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.concatenate([scale_bytes & 63, (split & 15) | ((scale_bytes >> 2) & 48)], axis=1)
    minimums = np.concatenate([minimum_bytes & 63, (split >> 4) | ((minimum_bytes >> 2) & 48)], axis=1)
    scale = _halves(blocks, 0) * scales.astype(np.float32)
    minimum = _halves(blocks, 2) * minimums.astype(np.float32)
    return scale[:, :, None], minimum[:, :, None]


def _decode_q4_k(blocks: np.ndarray, values: np.ndarray) -> None:
    """8 groups of 32: 6-bit scale and minimum, 4-bit values."""
    scale, minimum = _scales_and_minimums(blocks)
    packed, pairs = blocks[:, 16:].reshape(-1, 4, 32), values.reshape(-1, 4, 2, 32)
    np.copyto(pairs[:, :, 0], packed & 15)
    np.copyto(pairs[:, :, 1], packed >> 4)
    groups = values.reshape(-1, 8, 32)
    groups *= scale
    groups -= minimum


def _decode_q5_k(blocks: np.ndarray, values: np.ndarray) -> None:
    """As Q4_K, each value with a fifth bit."""
    scale, minimum = _scales_and_minimums(blocks)
    low = ((blocks[:, 48:].reshape(-1, 4, 1, 32) >> _NIBBLE_SHIFTS) & 15).reshape(-1, 8, 32)
    high = ((blocks[:, None, 16:48] >> _BIT_SHIFTS) & 1) << 4
    groups = values.reshape(-1, 8, 32)
    np.copyto(groups, low | high)
    groups *= scale
    groups -= minimum


def _decode_q6_k(blocks: np.ndarray, values: np.ndarray) -> None:
    """16 groups of 16: 8-bit signed scale, 6-bit values around 32."""
    low = ((blocks[:, :128].reshape(-1, 2, 1, 64) >> _NIBBLE_SHIFTS) & 15).reshape(-1, 8, 32)
    high = ((blocks[:, 128:192].reshape(-1, 2, 1, 32) >> _CRUMB_SHIFTS) & 3).reshape(-1, 8, 32)
    np.copyto(values.reshape(-1, 8, 32), (low | (high << 4)).view(np.int8) - 32)
    groups = values.reshape(-1, 16, 16)
    groups *= (_halves(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32))[:, :, None]


_DECODERS: dict[str, Callable[[np.ndarray, np.ndarray], None]] = {
    "F32": _decode_f32,
    "F16": _decode_f16,
    "BF16": _decode_bf16,
    "Q4_0": _decode_q4_0,
    "Q4_1": _decode_q4_1,
    "Q5_0": _decode_q5_0,
    "Q5_1": _decode_q5_1,
    "Q8_0": _decode_q8_0,
    "Q2_K": _decode_q2_k,
    "Q3_K": _decode_q3_k,
    "Q4_K": _decode_q4_k,
    "Q5_K": _decode_q5_k,
    "Q6_K": _decode_q6_k,
    "IQ4_NL": _decode_iq4_nl,
}
READABLE_TYPES = frozenset(_DECODERS)


def _decode_chunk(blocks: np.ndarray, ggml_type: GGMLType, out: np.ndarray) -> bool:
    """Fill `out` (B, block_values) of any float type from its blocks; whether all of it is finite."""
    # Damaged scales make infinities and NaN; the caller is told through the result, not through warnings.
    with np.errstate(all="ignore"):
        direct = out.dtype == np.float32
        values = out if direct else np.empty(out.shape, np.float32)
        _DECODERS[ggml_type.name](blocks, values)
        # The extremes of a chunk with a NaN are NaN. Bounds are the target's, so that an overflow counts too.
        finite = bool(np.isfinite(values.max(initial=0).astype(out.dtype)))
        finite = finite and bool(np.isfinite(values.min(initial=0).astype(out.dtype)))
        if not direct:
            out[...] = values.astype(out.dtype)
    return finite


def dequantize_into(
    raw: np.ndarray, ggml_type: GGMLType, out: np.ndarray, *, row_order: np.ndarray | None = None
) -> bool:
    """Decode a stored tensor into an array that exists, a chunk at a time on all cores.

    Args:
        raw: uint8, contiguous; the tensor's bytes, rows one after the other.
        ggml_type: How they are stored; one of `READABLE_TYPES`.
        out: float32, float16 or bfloat16, C-contiguous; as many values as `raw` holds. Other than float32
            is rounded once, to nearest even, from the exact float32.
        row_order: int (rows,); row i of `out`, a matrix, is stored row `row_order[i]`. None keeps the order.

    Returns:
        Whether every value is finite in `out`'s type. Temporaries stay below 32 MiB.

    Raises:
        ValueError: sizes do not fit together, or the type is not readable.
    """
    if ggml_type.name not in READABLE_TYPES:
        raise ValueError(f"type {ggml_type.name} is not readable, expected one of {', '.join(sorted(READABLE_TYPES))}.")
    if out.size % ggml_type.block_values or raw.size != out.size // ggml_type.block_values * ggml_type.block_bytes:
        raise ValueError(f"{raw.size} bytes of {ggml_type.name} do not make {out.size} values of shape {out.shape}.")
    # One unit is what may not be cut: a block, or a whole row where rows change places.
    num_units = len(row_order) if row_order is not None else out.size // ggml_type.block_values
    if not num_units:
        return True
    stored = raw.reshape(num_units, -1)
    target = out.reshape(num_units, -1)
    step = max(1, _CHUNK_VALUES // target.shape[1])

    def decode(start: int) -> bool:
        units = stored[start : start + step] if row_order is None else stored[row_order[start : start + step]]
        chunk = target[start : start + step]
        return _decode_chunk(
            units.reshape(-1, ggml_type.block_bytes), ggml_type, chunk.reshape(-1, ggml_type.block_values)
        )

    starts = range(0, num_units, step)
    num_threads = min(len(starts), usable_cores())
    if out.size < _THREAD_MIN_VALUES or num_threads < 2:
        finite = [decode(start) for start in starts]
    else:
        with ThreadPoolExecutor(num_threads) as pool:
            finite = list(pool.map(decode, starts))
    return all(finite)


def dequantize(raw: np.ndarray, ggml_type: GGMLType, shape: tuple[int, ...]) -> np.ndarray:
    """A stored tensor's exact values, float32 of `shape`; arguments and errors as in `dequantize_into`."""
    out = np.empty(shape, np.float32)
    dequantize_into(raw, ggml_type, out)
    return out
