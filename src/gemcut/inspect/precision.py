"""How far apart two forms of one model may lie: what storing in a type and computing in a dtype round away.

**Tensors.** A value x stored in a float of p significant bits moves by at most u |x|, u = 2^-p (half the distance to
the next one): 2^-24 for F32, 2^-11 for F16, 2^-8 for BF16. A block of a type of b bits shares a scale that its largest
value decides, so the step is amax / 2^(b-1), and rounding to it errs evenly: RMS step / sqrt(12). The largest of 32
normal numbers is 2.1 standard deviations on average, of heavy-tailed ones more; with 2.4 the error relative to the
RMS is 2.4 / (sqrt(12) 2^(b-1)), 0.087 for 4 bits; plain rounding of Gemma 3 270M reaches 0.15. The limit is three times
the formula: 0.26 for 4 bits, 0.016 for 8. No value may move by more than two steps of a block as large as the tensor's
largest value. Two forms of a common origin err each on its own, so limits add as squares.

**Logits.** Every matrix of L layers disturbs the hidden state on its own by its relative error e, so logits move by
about sqrt(L) e times their spread, and for small moves KL(A || B) is half the variance of the move under A. On Gemma 3
270M mean KL is 2 to 14 times L e^2 for roundings from F16 down to 4 bits (docs/verify.md), so the limit of mean KL is
40 L e^2, at most MAX_KL_LIMIT. e^2 is the mean over matrices of the measured squared relative error, as far as types
explain it, plus what each engine rounds in its inputs: of equal tensors only that can explain a difference.

**Perplexity.** Over n tokens the mean log-probability moves by KL plus a mean of n terms of variance 2 KL, so it may
differ by KL + 3 sqrt(2 KL / n) with KL at its limit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from gemcut.inspect.tensor_comparison import TensorErrors

_PEAK = 2.4  # largest of 32 weights, in standard deviations
_FLOAT_ROUNDING = {"F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}
# Relative RMS error that an engine makes in what it multiplies the weights with, by its dtype. float32: sums of a few
# thousand products in any order.
_DTYPE_ROUNDING = {"float32": 2.0**-20, "float16": 2.0**-11, "bfloat16": 2.0**-8}
# The native engine's inputs of quantised weights: 8 bits in blocks of 32.
_INT8_ROUNDING = _PEAK / (math.sqrt(12) * 2**7)
MIN_KL_LIMIT = 1e-6  # float32 logits of a vocabulary of 262,144 carry about this much noise of their own
MAX_KL_LIMIT = 2.0  # 4 bits everywhere, the output head included, plainly rounded: 0.93 on Gemma 3 270M
_KL_FACTOR = 40


def type_bits(stored_type: str) -> float:
    """Bits that decide a stored type's precision: a float's significant bits, a block type's bits for one value."""
    if stored_type in _FLOAT_ROUNDING:
        return -math.log2(_FLOAT_ROUNDING[stored_type])
    match = re.search(r"\d", stored_type)
    assert match is not None, "every other type that open_checkpoint lets through has its bits in its name"
    return float(match[0])


def type_rounding(stored_type: str) -> tuple[float, float]:
    """What storing in a type may change: (RMS relative to the tensor's RMS, maximum relative to its largest value)."""
    if stored_type in _FLOAT_ROUNDING:
        return (_FLOAT_ROUNDING[stored_type],) * 2
    steps = 2.0 ** (type_bits(stored_type) - 1)
    return 3 * _PEAK / (math.sqrt(12) * steps), 2 / steps


def tensor_verdict(errors: TensorErrors) -> str:
    """Whether a tensor is "same", "within" what its types round away, or "different"."""
    # 1 + w is a float32 near 1: taking the 1 off again leaves one unit in its last place.
    kept = 2.0**-23 * (1 + errors.max_value) if errors.adds_one else 0.0
    if errors.max_error <= kept:
        return "same"
    rms_limit, max_limit = _limits(errors)
    fits = errors.relative_rms_error <= rms_limit and errors.max_error <= max_limit * errors.max_value + kept
    return "within" if fits else "different"


def explained_error(errors: Iterable[TensorErrors]) -> float:
    """RMS over matrices of the relative RMS errors, of each no more than its types explain."""
    squares = [min(each.relative_rms_error, _limits(each)[0]) ** 2 for each in errors if len(each.shape) > 1]
    return math.sqrt(math.fsum(squares) / max(1, len(squares)))


def _limits(errors: TensorErrors) -> tuple[float, float]:
    """What both types together round away, as `type_rounding`."""
    pairs = zip(*map(type_rounding, (errors.type_a, errors.type_b)), strict=True)
    rms_limit, max_limit = (math.hypot(*pair) for pair in pairs)
    return rms_limit, max_limit


def coarsest_type(errors: Iterable[TensorErrors]) -> str:
    """The stored type of fewest bits among tensors whose values differ."""
    return min((kind for each in errors for kind in (each.type_a, each.type_b)), key=type_bits)


def engine_rounding(engine: str, dtype: str, asked: str) -> float:
    """Relative RMS error that an engine's own arithmetic makes.

    Args:
        engine: "native", "jax", "torch" or "tensorflow".
        dtype: What it says it computes in; on the native engine the type that most weights are stored in.
        asked: The dtype that was asked for; "float32" has the native engine keep its cache in float32.
    """
    if engine != "native":
        return _DTYPE_ROUNDING[dtype]
    if dtype not in _DTYPE_ROUNDING:
        return _INT8_ROUNDING
    return _DTYPE_ROUNDING["float32" if asked == dtype == "float32" else "bfloat16"]


def kl_limit(weights_error: float, engines: Iterable[float], num_layers: int) -> float:
    """Largest mean KL, in nats, that rounding explains.

    Args:
        weights_error: `explained_error` of the tensors.
        engines: `engine_rounding` of each side.
        num_layers: L.
    """
    square = weights_error**2 + sum(error**2 for error in engines)
    return min(max(_KL_FACTOR * num_layers * square, MIN_KL_LIMIT), MAX_KL_LIMIT)


def log_probability_limit(limit: float, num_tokens: int) -> float:
    """Largest difference of mean log-probabilities over `num_tokens` tokens, in nats, at a mean KL of `limit`."""
    return limit + 3 * math.sqrt(2 * limit / num_tokens)
