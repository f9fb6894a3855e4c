"""Pictures: what is drawn, nothing outside the frame, nothing over something else."""

from __future__ import annotations

import itertools

import pytest
from synthetic_runs import card_tasks, item_scores, mmlu_task, task_facts, write_run

from gemcut.evaluate.plots import DARK, LIGHT, figure_bytes, group_bars, task_forest
from gemcut.evaluate.report import build_report
from gemcut.evaluate.run_folder import read_run


@pytest.fixture
def report(card_run):
    return build_report(read_run(card_run))


def texts(figure):
    """Every visible text with its box in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    return [
        (each.get_text(), each.get_window_extent(renderer))
        for each in figure.findobj(Text)
        if each.get_visible() and each.get_text().strip()
    ]


@pytest.mark.parametrize("draw", [group_bars, task_forest])
def test_nothing_is_cut_off_or_overlaps(report, draw):
    figure = draw(report)
    found = texts(figure)
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in found:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
    for (one, first), (other, second) in itertools.combinations(found, 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        up = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert not (across > 2 and up > 3), (one, other)


def test_bars_are_the_figures(report):
    axes = group_bars(report).axes[0]
    labels = [each.get_label() for each in axes.containers if not each.get_label().startswith("_")]
    assert labels == [
        "Llama 2 7B (published)", "Llama 2 13B (published)", "Mistral 7B (published)", "Gemma 2B (published)",
        "Gemma 7B (published)", "starter (measured here, 95 % interval)",
    ]  # fmt: skip
    measured = [bar.get_height() for bar in axes.containers[labels.index(labels[-1])]]
    assert measured == [group["value"] for group in report["groups"] if group["measured"]]
    ticks = [each.get_text() for each in axes.get_xticklabels()]
    assert ticks == [
        "question answering\n(2 of 5 members)", "reasoning\n(5 of 8 members)", "maths and science\n(1 of 3 members)",
        "coding\n(not measured)",
    ]  # fmt: skip


def test_members_are_printed(report):
    words = [text for text, _ in texts(group_bars(report))]
    assert any("reasoning: HellaSwag, PIQA, WinoGrande, ARC-e, ARC-c; incomplete" in text for text in words)
    assert any("coding: not measured: HumanEval, MBPP" in text for text in words)


def test_forest_has_dots_intervals_and_published_marks(report):
    axes = task_forest(report).axes[0]
    drawn = {(line.get_marker(), tuple(line.get_xdata())) for line in axes.lines}
    for task in report["tasks"]:
        metric = task["metrics"][0]
        assert ("o", (metric["value"],)) in drawn
        assert ("None", (metric["low"], metric["high"])) in drawn
        for found in task["published"][:1]:
            assert ("D", (found["score"],)) in drawn
    assert len([line for line in axes.lines if line.get_marker() == "D"]) == 7


def test_column_that_is_the_models_own_is_drawn_once(tmp_path):
    run = write_run(tmp_path / "run", {"mmlu": mmlu_task()}, {"name": "gemma-7b"})
    axes = task_forest(build_report(read_run(run))).axes[0]
    marks = [line for line in axes.lines if list(line.get_xdata()) == [64.3]]
    assert [line.get_marker() for line in marks] == ["D"]


def test_tasks_without_shares_are_not_drawn(tmp_path):
    items = item_scores({"word_perplexity": 0.0}, 3, 0)
    task = task_facts("a text", "rolling", items, 0)
    task["metrics"]["word_perplexity"] |= {"value": 17.25, "is_percent": False}
    report = build_report(read_run(write_run(tmp_path / "run", {"perplexity": (task, items)})))
    assert task_forest(report).axes[0].lines[:] == []
    assert figure_bytes(group_bars(report), "png")


def test_long_names_stay_in_the_frame(tmp_path):
    tasks = card_tasks()
    tasks["boolq"][0]["title"] = "A very long title of a task that nobody would ever give to one"
    run = write_run(tmp_path / "run", tasks, {"name": "some/where/a-model-with-a-very-long-name-that-goes-on.gguf"})
    test_nothing_is_cut_off_or_overlaps(build_report(read_run(run)), task_forest)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_same_report_same_bytes(report, kind):
    assert figure_bytes(task_forest(report), kind) == figure_bytes(task_forest(report), kind)


def test_dark_and_light_differ(report):
    assert figure_bytes(group_bars(report, LIGHT), "svg") != figure_bytes(group_bars(report, DARK), "svg")
