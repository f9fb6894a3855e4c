"""How sure a figure is: standard errors, 95 % intervals, and tests of two runs on the same items."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

Z95 = 1.959963984540054  # the normal distribution's 97.5 % point
NUM_RESAMPLES = 10_000
_CHUNK_DRAWS = 1 << 22  # numbers drawn at a time, so that memory stays small


@dataclasses.dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval.

    Attributes:
        low, high: Its ends, both included, in the figure's own unit.
        method: "Wilson", "bootstrap" or "normal"; "combined" of a mean of figures that have intervals.
    """

    low: float
    high: float
    method: str


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean, exact to rounding; at least one value."""
    return math.fsum(values) / len(values)


def standard_error(values: Sequence[float]) -> float | None:
    """Standard error of a mean: the sample standard deviation (n - 1) over the root of n; None for fewer than two."""
    n = len(values)
    if n < 2:
        return None
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (n - 1) / n)


def wilson_interval(num_right: int, num_items: int) -> Interval:
    """Interval of a share of items: never empty, never outside 0 to 1, true also near the ends.

    Args:
        num_right: Items that are right.
        num_items: All of them; at least 1.

    Source: Wilson 1927, without continuity correction.
    """
    share, square = num_right / num_items, Z95 * Z95
    centre = share + square / (2 * num_items)
    half = Z95 * math.sqrt(share * (1 - share) / num_items + square / (4 * num_items * num_items))
    scale = 1 + square / num_items
    # Exactly the ends where they are: rounding must not exclude the share itself.
    low = 0.0 if num_right == 0 else (centre - half) / scale
    high = 1.0 if num_right == num_items else (centre + half) / scale
    return Interval(low, high, "Wilson")


def normal_interval(value: float, stderr: float) -> Interval:
    """The value and 1.96 standard errors to both sides."""
    return Interval(value - Z95 * stderr, value + Z95 * stderr, "normal")


def mean_interval(values: Sequence[float], seed: int = 0) -> Interval | None:
    """Interval of the mean of items: Wilson's where each is 0 or 1, else by bootstrap; None for fewer than two."""
    if len(values) < 2:
        return None
    if all(value in (0.0, 1.0) for value in values):
        return wilson_interval(round(sum(values)), len(values))
    return percentiles(bootstrap_means(values, seed))


def bootstrap_means(
    values: Sequence[float], seed: int | Sequence[int] = 0, num_resamples: int = NUM_RESAMPLES
) -> np.ndarray:
    """Means of samples drawn from the values with replacement, each as large as they are.

    Returns:
        float64 (num_resamples,); the same for the same seed.
    """
    numbers = np.asarray(values, np.float64)
    generator = np.random.default_rng(seed)
    distinct, counts = np.unique(numbers, return_counts=True)
    if len(distinct) <= 32:  # how often each was drawn is all that counts
        drawn = generator.multinomial(len(numbers), counts / len(numbers), size=num_resamples)
        return np.asarray(drawn @ distinct / len(numbers))
    rows = max(1, _CHUNK_DRAWS // len(numbers))
    sizes = [min(rows, num_resamples - start) for start in range(0, num_resamples, rows)]
    return np.concatenate(
        [numbers[generator.integers(len(numbers), size=(size, len(numbers)))].mean(axis=1) for size in sizes]
    )


def percentiles(resampled: np.ndarray) -> Interval:
    """The middle 95 % of what a bootstrap gave."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(float(low), float(high), "bootstrap")


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value of McNemar's test: could the items on which two runs disagree be coin tosses?

    Args:
        only_a, only_b: Items that only the one run, or only the other, has right.

    Returns:
        Above 0, at most 1; 1 where they never disagree.

    Source: McNemar 1947; the two-sided binomial test of min(only_a, only_b) in all disagreements with p = 1/2.
    """
    n, k = only_a + only_b, min(only_a, only_b)
    if n == 0:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(k + 1)]
    largest = max(logs)
    total = math.fsum(math.exp(each - largest) for each in logs)
    return min(1.0, math.exp(math.log(2) + largest + math.log(total) - n * math.log(2)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for how many tests were made, by Holm's method, in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def mean_of_intervals(values: Sequence[float], intervals: Sequence[Interval | None]) -> Interval | None:
    """Interval of the mean of independent figures, from theirs; None where one has none.

    The distances to the low ends are added as errors are, and so are those to the high ends, so that an interval near 0
    or 100 % keeps its shape.

    Source: Zou and Donner 2008, "Construction of confidence limits about effect measures", the method of variance
    estimates recovery.
    """
    known = [each for each in intervals if each is not None]
    if len(known) < len(values):
        return None
    below = math.sqrt(math.fsum((value - each.low) ** 2 for value, each in zip(values, known, strict=True)))
    above = math.sqrt(math.fsum((each.high - value) ** 2 for value, each in zip(values, known, strict=True)))
    centre = mean(values)
    return Interval(centre - below / len(values), centre + above / len(values), "combined")


def mean_of_figures(values: Sequence[float], stderrs: Sequence[float | None]) -> tuple[float, float | None]:
    """The mean of independent figures and its standard error, which is None where one of theirs is unknown."""
    known = [stderr for stderr in stderrs if stderr is not None]
    if len(known) < len(stderrs):
        return mean(values), None
    return mean(values), math.sqrt(math.fsum(stderr * stderr for stderr in known)) / len(values)
