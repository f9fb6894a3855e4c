"""The report before the first step: its figures, its words, its page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemcut.tune.data_report import DataReport, build_report, lengths_of, show_sample
from gemcut.tune.data_report_html import render_html
from gemcut.tune.data_report_text import print_report, report_text
from gemcut.tune.recipe import Recipe
from gemcut.tune.samples import Sample
from gemcut.tune.training_data import prepare


@pytest.fixture
def make(base_model, write_lines):
    def report(records: list[Any], **changes: Any) -> DataReport:
        recipe = Recipe.from_dict({"model": "tiny", "data": write_lines(records), **changes})
        return build_report(prepare(recipe, base_model))

    return report


@pytest.fixture
def busy(make) -> DataReport:
    """A report in which something was cut, dropped, repeated and left unused."""
    records = [{"prompt": "The", "completion": f" river {number}.", "id": number} for number in range(20)]
    records += [records[3], records[3], {"prompt": "The ", "completion": "house", "id": 9}]
    records += [
        {"prompt": "The", "completion": " house" * 60, "id": 1},
        {"prompt": "a", "completion": "", "id": 2},
        {"prompt": "a <b>&" * 20, "completion": "x", "id": 2},
    ]
    options = {"sequence_length": 40, "overlong": "truncate", "empty": "drop"}
    return make(records, samples=options, evaluation={"share": 0.1}, batch_size=2)


def test_figures(make):
    report = make([{"prompt": "The", "completion": " house."}, {"prompt": "The", "completion": " river 7."}])
    assert report.num_samples == 2
    assert report.num_tokens == report.lengths.shortest + report.lengths.longest
    assert report.num_targets == report.num_tokens - 4  # <bos> and "The"
    assert report.share_learnt == report.num_targets / report.num_tokens
    assert sum(report.lengths.counts) == 2
    assert (report.bos.once, report.bos.more, report.bos.missing) == (2, 0, 0)
    plan = report.plan
    assert (plan.num_rows, plan.length, plan.num_steps) == (1, 64, 1)
    assert plan.efficiency == report.num_tokens / 64
    assert plan.targets_per_step == report.num_targets
    assert report.template == "none: plain text, <eos> at the end"
    assert report.notices == ()


def test_everything_that_happened_is_told(busy):
    text = report_text(busy, 100)
    for words in (
        "1 cut; 1 with nothing to learn, left out; 1 left out, as cutting left nothing to learn",
        "Cut at 40 tokens",
        "data.jsonl: line 24",
        "Nothing to learn, left out",
        "Cutting left nothing to learn, left out",
        "these columns are not used: id",
        "In 1 sample prompt and completion meet within a token",
        "Cut at 40 tokens: 1 sample; their ends, and their end markers, are not learnt",
        "line 4 = line 21 = line 22",
        "Equal to an earlier one: 2 samples",
    ):
        assert words in " ".join(text.split()), words


def test_the_sample_shows_what_is_learnt(make, capsys, monkeypatch):
    report = make([{"prompt": "The <bos>", "completion": " house[b]."}])
    assert report.shown.pieces == (("<bos>The <bos>", False), (" house[b].<eos>", True))
    text = report_text(report)
    assert "<bos>The <bos>» house[b].<eos>«" in text
    assert "are learnt: between » and «" in text
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_report(report)
    printed = capsys.readouterr().out
    assert "\x1b[1;32m house[b].<eos>\x1b[0m" in printed
    assert "»" not in printed


def test_a_conversation_in_which_earlier_turns_are_given(make):
    turns = [{"role": ("user", "assistant")[number % 2], "content": "river"} for number in range(4)]
    report = make([{"messages": turns}])
    assert "Not learnt: 1 earlier turn of the assistant; --loss-on assistant learns all." in report.notices
    assert any("tiny brings no chat template" in notice for notice in report.notices)
    assert report.loss_on == "the last turn of the assistant"
    report = make([{"messages": turns}], samples={"loss_on": "assistant"})
    assert report.loss_on == "every turn of the assistant"
    assert [flag for _, flag in report.shown.pieces] == [False, True, False, True, False]


def test_more_notices(make):
    prompts = [{"instruction": "The " * 50, "output": f"x{number}"} for number in range(9)]
    report = make(prompts, batch_size=9)
    text = " ".join(report.notices)
    assert "Alpaca records are written with ### Instruction:" in text
    assert re.search(r"Only \d\.\d% of the tokens are learnt", text)
    assert "One step takes all rows." in text


def test_long_samples_are_shown_in_part(gemma):
    shown = show_sample(Sample(np.full(700, gemma.encode("house")[1]), np.arange(700) > 5, "here"), gemma)
    assert (shown.num_tokens, shown.num_targets, shown.num_hidden) == (700, 694, 100)


def test_no_json_value_is_left_out(busy):
    values = json.loads(json.dumps(busy.to_dict()))
    assert values["format"] == 1
    assert values["share_learnt"] == busy.share_learnt
    assert values["files"][0]["format"]["columns"] == {"prompt": "prompt", "completion": "completion"}
    assert len(values["duplicates"]["groups"][0]) == 3
    assert values["plan"]["num_steps"] == busy.plan.num_steps
    assert [list(place) for place in busy.changed.truncated] == values["changed"]["truncated"]


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=50))
@settings(max_examples=100, deadline=None)
def test_every_length_is_in_a_bin(sizes):
    lengths = lengths_of(sizes)
    widths = set(np.diff(lengths.edges).tolist())
    assert len(widths) == 1
    assert re.fullmatch("[125]0*", str(widths.pop()))
    assert sum(lengths.counts) == len(sizes)
    assert 1 <= len(lengths.counts) <= 17
    assert lengths.edges[0] <= min(sizes)
    assert max(sizes) < lengths.edges[-1]
    assert lengths.counts[0] > 0


class Page(HTMLParser):
    """What a page refers to, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []
        self.text = ""
        self.marked: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.outside += [value for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_endtag(self, tag):
        while self.open.pop() != tag:
            pass

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] == "mark":
            self.marked.append(data)


def test_the_page_needs_nothing_else(busy):
    page = Page(render_html(busy))
    assert page.outside == []
    assert "script" not in render_html(busy)
    for words in ("Data for tuning tiny", "Cut at 40 tokens", "SHA-256", "these columns are not used: id"):
        assert words in page.text


def test_the_page_marks_what_is_learnt_and_escapes_texts(make):
    report = make([{"prompt": "<script>", "completion": "</pre><b>house"}])
    page = render_html(report)
    assert Page(page).marked[1] == "</pre><b>house<eos>"
    assert "<b>house" not in page
    assert "<script>" not in page


def test_the_plot_has_a_bar_for_each_bin(busy):
    page = render_html(busy)
    assert page.count('<rect class="bar"') == len(busy.lengths.counts)
    assert "a row: 40" in page


def test_a_single_sample_has_a_report(make):
    report = make([{"text": "house"}])
    assert "1 record, text" in report_text(report)
    assert "once in 1 sample\n" in report_text(report)
    assert render_html(report)
