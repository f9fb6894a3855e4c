"""Errors, intervals and tests agree with brute force, and with SciPy where it is there."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemcut.evaluate import statistics

VALUES = st.lists(st.floats(-100, 100, allow_nan=False), min_size=2, max_size=40)
COUNTS = st.integers(0, 60)


@given(VALUES)
def test_standard_error_is_numpys(values):
    expected = np.std(values, ddof=1) / math.sqrt(len(values))
    assert statistics.standard_error(values) == pytest.approx(expected, abs=1e-9)


def test_one_item_has_no_error():
    assert statistics.standard_error([1.0]) is None
    assert statistics.mean_interval([1.0]) is None


@given(st.integers(1, 400), st.data())
def test_wilson_ends_are_where_the_share_is_at_196_standard_errors(n, data):
    k = data.draw(st.integers(0, n))
    interval = statistics.wilson_interval(k, n)
    assert 0 <= interval.low <= k / n <= interval.high <= 1
    for end in (interval.low, interval.high):
        if 0 < end < 1:  # the equation that the interval solves
            distance = abs(k / n - end) / math.sqrt(end * (1 - end) / n)
            assert distance == pytest.approx(statistics.Z95, rel=1e-6)


def test_wilson_is_the_textbooks():
    interval = statistics.wilson_interval(10, 20)
    assert (interval.low, interval.high) == pytest.approx((0.299298, 0.700702), abs=1e-6)
    assert statistics.wilson_interval(0, 10).low == 0
    assert statistics.wilson_interval(10, 10).high == 1


def brute_force_mcnemar(only_a: int, only_b: int) -> Fraction:
    n = only_a + only_b
    total = sum(Fraction(math.comb(n, i), 2**n) for i in range(min(only_a, only_b) + 1))
    return min(Fraction(1), 2 * total)


@given(COUNTS, COUNTS)
def test_mcnemar_is_the_exact_sum(only_a, only_b):
    assert statistics.mcnemar(only_a, only_b) == pytest.approx(float(brute_force_mcnemar(only_a, only_b)), rel=1e-9)
    assert statistics.mcnemar(only_a, only_b) == statistics.mcnemar(only_b, only_a)


def test_mcnemar_of_all_outcomes_keeps_its_level():
    """Under chance, p <= x happens with probability at most x."""
    n = 12
    outcomes = [sum(toss) for toss in itertools.product((0, 1), repeat=n)]
    p_values = np.array([statistics.mcnemar(k, n - k) for k in outcomes])
    for level in (0.01, 0.05, 0.2, 0.5):
        assert np.mean(p_values <= level + 1e-12) <= level


def test_mcnemar_of_thousands_is_finite():
    assert 0 < statistics.mcnemar(5000, 5200) < 0.06
    assert 0 <= statistics.mcnemar(100, 9000) < 1e-300
    assert statistics.mcnemar(0, 0) == 1


def test_mcnemar_is_scipys():
    scipy_stats = pytest.importorskip("scipy.stats")
    for only_a, only_b in [(3, 9), (0, 5), (20, 41), (700, 640), (8, 8)]:
        expected = scipy_stats.binomtest(only_a, only_a + only_b).pvalue
        assert statistics.mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9)


def test_wilson_is_scipys():
    scipy_stats = pytest.importorskip("scipy.stats")
    for k, n in [(0, 7), (3, 7), (400, 1172), (1172, 1172)]:
        expected = scipy_stats.binomtest(k, n).proportion_ci(method="wilson")
        found = statistics.wilson_interval(k, n)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_bootstrap_of_three_values_is_the_exact_distribution():
    """All 27 samples of three values, by enumeration, against what is drawn."""
    values = [0.0, 1.0, 5.0]
    exact = sorted(sum(sample) / 3 for sample in itertools.product(values, repeat=3))
    drawn = statistics.bootstrap_means(values, seed=1, num_resamples=100_000)
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        assert np.quantile(drawn, share) == pytest.approx(np.quantile(exact, share), abs=0.34)
    assert drawn.mean() == pytest.approx(2.0, abs=0.02)
    assert drawn.var() == pytest.approx(np.var(values) / 3, rel=0.02)


@pytest.mark.parametrize("distinct", [3, 500], ids=["counted", "drawn one by one"])
def test_bootstrap_interval_is_near_the_normal_one(distinct):
    values = np.random.default_rng(7).integers(0, distinct, size=800) / distinct
    found = statistics.percentiles(statistics.bootstrap_means(values, seed=3))
    expected = statistics.normal_interval(values.mean(), statistics.standard_error(values))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.004)


def test_bootstrap_of_many_items_is_drawn_in_pieces(monkeypatch):
    values = np.random.default_rng(0).random(100)
    whole = statistics.bootstrap_means(values, seed=5, num_resamples=64)
    assert whole.shape == (64,)
    monkeypatch.setattr(statistics, "_CHUNK_DRAWS", 1000)
    pieces = statistics.bootstrap_means(values, seed=5, num_resamples=64)
    assert np.array_equal(whole, pieces)  # one stream of numbers, however it is cut


def test_same_seed_same_interval():
    values = list(np.random.default_rng(2).random(50))
    assert statistics.mean_interval(values, 4) == statistics.mean_interval(values, 4)
    assert statistics.mean_interval(values, 4) != statistics.mean_interval(values, 5)
    assert statistics.mean_interval(values).method == "bootstrap"
    assert statistics.mean_interval([0.0, 1.0, 1.0]).method == "Wilson"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_the_stepwise_procedure_rejects(p_values):
    corrected = statistics.holm(p_values)
    for level in (0.01, 0.05, 0.3):
        rejected, order = set(), sorted(range(len(p_values)), key=lambda index: p_values[index])
        for rank, index in enumerate(order):
            if p_values[index] * (len(p_values) - rank) > level:
                break
            rejected.add(index)
        assert {index for index, p in enumerate(corrected) if p <= level} == rejected
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))


def test_holm_of_a_known_case():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_mean_of_figures_propagates_errors():
    value, stderr = statistics.mean_of_figures([0.2, 0.4, 0.9], [0.03, 0.04, 0.12])
    assert value == pytest.approx(0.5)
    assert stderr == pytest.approx(0.13 / 3)
    assert statistics.mean_of_figures([0.2, 0.4], [0.1, None]) == (pytest.approx(0.3), None)


def test_mean_of_figures_is_what_simulation_gives():
    generator = np.random.default_rng(0)
    drawn = np.mean([generator.normal(0, s, 200_000) for s in (0.03, 0.04, 0.12)], axis=0)
    assert statistics.mean_of_figures([0, 0, 0], [0.03, 0.04, 0.12])[1] == pytest.approx(drawn.std(), rel=0.02)


def test_interval_of_a_mean_is_the_normal_one_far_from_the_ends():
    """Wilson's intervals of large counts are the normal ones, and so is what they give together."""
    counts = [(4000, 10000), (2500, 5000)]
    values = [right / n for right, n in counts]
    found = statistics.mean_of_intervals(values, [statistics.wilson_interval(*each) for each in counts])
    errors = [(value * (1 - value) / n) ** 0.5 for value, (_, n) in zip(values, counts, strict=True)]
    centre, stderr = statistics.mean_of_figures(values, errors)
    expected = statistics.normal_interval(centre, stderr)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=2e-4)
    assert found.method == "combined"


@given(st.lists(st.integers(0, 20), min_size=1, max_size=5))
def test_interval_of_a_mean_stays_inside_0_and_1(counts):
    intervals = [statistics.wilson_interval(right, 20) for right in counts]
    found = statistics.mean_of_intervals([right / 20 for right in counts], intervals)
    assert -1e-12 <= found.low <= sum(counts) / len(counts) / 20 <= found.high <= 1 + 1e-12
    assert statistics.mean_of_intervals([0.5, 0.5], [statistics.wilson_interval(1, 2), None]) is None


def test_interval_of_a_mean_holds_the_truth_in_95_of_100_measurements():
    generator = np.random.default_rng(0)
    truths, n, held = (0.97, 0.5, 0.2), 60, 0
    for _ in range(2000):
        rights = [int(generator.binomial(n, truth)) for truth in truths]
        intervals = [statistics.wilson_interval(right, n) for right in rights]
        found = statistics.mean_of_intervals([right / n for right in rights], intervals)
        held += found.low <= sum(truths) / 3 <= found.high
    assert held / 2000 == pytest.approx(0.95, abs=0.012)
