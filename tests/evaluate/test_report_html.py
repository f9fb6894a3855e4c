"""The page: whole, self-contained, and clear about what was measured."""

from __future__ import annotations

import html.parser
import re
import sys

import pytest
from synthetic_runs import card_tasks, mmlu_task, task_facts, write_run

from gemcut.errors import MissingExtraError
from gemcut.evaluate.report import build_report
from gemcut.evaluate.report_html import render_html
from gemcut.evaluate.run_folder import read_run

VOID = {"meta", "img", "source", "br", "link"}


class Page(html.parser.HTMLParser):
    """Tags of a page, and whether they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def page(card_run):
    return Page(render_html(build_report(read_run(card_run))))


def test_tags_nest(page):
    assert page.open == []


def test_page_needs_no_other_host(page):
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe")
        for name in ("src", "srcset"):
            assert attributes.get(name, "data:").startswith("data:")
        assert not any(name.startswith("on") for name in attributes)
    policy = next(each["content"] for tag, each in page.tags if each.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_pictures_have_words_and_a_dark_form(page):
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    sources = [attributes for tag, attributes in page.tags if tag == "source"]
    assert len(images) == len(sources) == 2
    assert "BoolQ 60.9, published 61.4" in images[0]["alt"]
    assert all(each["media"] == "(prefers-color-scheme: dark)" for each in sources)
    assert all(image["src"] != source["srcset"] for image, source in zip(images, sources, strict=True))


def test_headings_and_tables_are_marked(page):
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == 1
    assert ("html", {"lang": "en"}) in page.tags
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in page.tags if tag == "th")


def test_everything_asked_of_a_report_is_there(page):
    for part in (
        "Evaluation of starter", "6 reproduced", "1 below", "measured here", "published, not measured here",
        "60.86 ± 2.70", "55.5 to 66.0", "-7.4 (tolerance 2.9)", "incomplete, without CommonsenseQA",
        "printed: 10-shot; compared: acc_norm, the source names no metric", "Only the number of shots is given",
        "Below the share of the larger class", "MMLU: 3 parts (acc)", "BoolQ: BOS once", "2 9259 236764",
        "Question: why? Answer: <b>&", "CC BY-SA 4.0", "c" * 64, "fixed sampling, seed 0", "weights sha256",
        "native, Q8_0", "machine: cpu", "versions: numpy", "gemcut eval starter --suite gemma3-card",
        "nothing marked published was measured here",
    ):  # fmt: skip
        assert part in page.text, part


def test_what_comes_from_outside_is_escaped(tmp_path):
    items = [{"acc": 1.0}, {"acc": 0.0}]
    task = task_facts("<script>x</script>", "choices", items, 0, notes=["<i>n</i>"], licence="<u>", system="</dd>")
    run = write_run(tmp_path / "run", {"mine": (task, items)}, {"name": '"><script>alert(1)</script>'})
    text = render_html(build_report(read_run(run)))
    assert "<script" not in text
    assert Page(text).open == []


def test_run_without_a_published_column(tmp_path):
    run = write_run(tmp_path / "run", {"mmlu": mmlu_task()}, {"name": "my-model"})
    text = Page(render_html(build_report(read_run(run)))).text
    assert "Against published scores" not in text
    assert "nothing to compare with" in text
    assert "1 task, suite" in text


def test_facts_that_a_run_may_lack(tmp_path):
    items = [{"acc": 1.0}]
    task = task_facts("mine", "choices", items, 0, data={"set": "mine", "file": None, "sha256": None}, bos_check=None)
    task |= {"first_prompts": [], "seconds": None}
    run = write_run(tmp_path / "run", {"mine": (task, items)}, suite=None, machine=None)
    text = Page(render_html(build_report(read_run(run)))).text
    assert "BOS not checked" in text
    assert "No prompts were kept." in text
    assert "1 item" in text


def test_text_has_enough_contrast():
    """WCAG AA: 4.5 to 1 for text, in both themes."""
    from importlib import resources

    css = (resources.files("gemcut.evaluate") / "report.css").read_text(encoding="utf-8")
    for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL):
        colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block))
        for name in ("ink", "muted", "accent", "good", "warn", "bad", "over", "published"):
            for ground in ("paper", "raised"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def contrast(one: str, other: str) -> float:
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_without_matplotlib(card_run, monkeypatch):
    report = build_report(read_run(card_run))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"Plots need Matplotlib.*gemcut\[eval\]"):
        render_html(report)


def test_many_tasks_at_once(tmp_path):
    tasks = {f"{name}{number}": each for number in range(3) for name, each in card_tasks(number).items()}
    run = write_run(tmp_path / "run", tasks)
    assert Page(render_html(build_report(read_run(run)))).text.count("BOS once") == 21
