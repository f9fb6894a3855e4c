"""A task's figures from its items' metrics."""

from __future__ import annotations

import math
import statistics

import pytest

from gemcut.evaluate.aggregate import AGGREGATES, ItemResult


def results(*metrics: dict[str, float]) -> list[ItemResult]:
    return [ItemResult(str(number), None, each) for number, each in enumerate(metrics)]


def test_a_mean_and_its_error() -> None:
    figures = AGGREGATES["mean"](results({"acc": 1.0}, {"acc": 0.0}, {"acc": 1.0, "acc_norm": 0.0}))
    assert figures["acc"].value == pytest.approx(2 / 3)
    assert figures["acc"].stderr == pytest.approx(statistics.stdev([1, 0, 1]) / math.sqrt(3))
    assert (figures["acc"].num_items, figures["acc"].is_percent, figures["acc"].higher_is_better) == (3, True, True)
    assert (figures["acc_norm"].num_items, figures["acc_norm"].stderr) == (1, None)


def test_what_is_known_of_a_metric_by_its_name() -> None:
    figures = AGGREGATES["mean"](results({"likelihood_diff": 2.0, "pct_stereotype": 1.0, "refused_safe": 0.0}))
    assert [(each.is_percent, each.higher_is_better) for each in figures.values()] == [
        (False, False), (True, False), (True, False)
    ]  # fmt: skip


def test_perplexity_as_the_harness_computes_it() -> None:
    sizes = {"logprob": -60.0, "num_words": 10.0, "num_bytes": 50.0, "num_tokens": 20.0}
    figures = AGGREGATES["perplexity"](results(sizes, sizes | {"logprob": -40.0}))
    assert {name: each.value for name, each in figures.items()} == pytest.approx(
        {
            "word_perplexity": math.exp(5),
            "byte_perplexity": math.exp(1),
            "token_perplexity": math.exp(2.5),
            "bits_per_byte": 1 / math.log(2),
        }
    )
    assert not any(each.is_percent or each.higher_is_better for each in figures.values())


def test_a_perplexity_too_large_for_a_number_is_infinite() -> None:
    sizes = {"logprob": -1e6, "num_words": 1.0, "num_bytes": 1e6, "num_tokens": 1e6}
    assert AGGREGATES["perplexity"](results(sizes))["word_perplexity"].value == math.inf


def test_instructions_count_one_by_one() -> None:
    figures = AGGREGATES["ifeval"](
        results(
            {
                "prompt_level_strict_acc": 1.0,
                "num_followed_strict": 1.0,
                "num_followed_loose": 1.0,
                "num_instructions": 1.0,
            },
            {
                "prompt_level_strict_acc": 0.0,
                "num_followed_strict": 1.0,
                "num_followed_loose": 3.0,
                "num_instructions": 3.0,
            },
        )
    )
    assert figures["prompt_level_strict_acc"].value == 0.5
    assert figures["inst_level_strict_acc"].value == 0.5
    assert figures["inst_level_strict_acc"].stderr == pytest.approx(math.sqrt(0.5 * 2) / 4)
    assert (figures["inst_level_loose_acc"].value, figures["inst_level_loose_acc"].stderr) == (1.0, 0.0)
    assert not any(name.startswith("num_") for name in figures)


def test_prejudice_counts_among_the_answers_that_name_somebody() -> None:
    figures = AGGREGATES["bbq"](
        results(
            {"acc": 1.0, "acc_amb": 1.0},
            {"acc": 0.0, "acc_amb": 0.0, "biased_amb": 1.0},
            {"acc": 0.0, "acc_amb": 0.0, "biased_amb": 1.0},
            {"acc": 0.0, "acc_amb": 0.0, "biased_amb": 0.0},
            {"acc": 1.0, "acc_disamb": 1.0, "biased_disamb": 0.0},
            {"acc": 1.0, "acc_disamb": 1.0, "biased_disamb": 0.0},
        )
    )
    values = {name: each.value for name, each in figures.items()}
    assert values == pytest.approx(
        {
            "acc": 0.5,
            "accuracy_amb": 0.25,
            "amb_bias_score": 0.75 / 3,
            "accuracy_disamb": 1.0,
            "disamb_bias_score": -1.0,
        }
    )
    assert figures["amb_bias_score"].higher_is_better is None
    assert figures["disamb_bias_score"].stderr == 0.0


def test_nobody_named_is_no_prejudice() -> None:
    figures = AGGREGATES["bbq"](results({"acc": 1.0, "acc_amb": 1.0}))
    assert (figures["amb_bias_score"].value, figures["amb_bias_score"].stderr) == (0.0, None)


def test_the_gap_between_the_sides_of_winobias() -> None:
    figures = AGGREGATES["winobias"](
        results(
            {"acc": 1.0, "acc_type1_pro": 1.0}, {"acc": 1.0, "acc_type1_pro": 1.0},
            {"acc": 0.0, "acc_type1_anti": 0.0}, {"acc": 1.0, "acc_type1_anti": 1.0},
        )
    )  # fmt: skip
    gap = figures["pro_anti_gap_type1"]
    assert (gap.value, gap.stderr, gap.num_items) == (0.5, pytest.approx(0.5), 4)
    assert "pro_anti_gap_type2" not in figures
