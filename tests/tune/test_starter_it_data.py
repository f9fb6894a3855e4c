"""The data of recipes/starter-it: answers fulfil the wishes that they are given with, and nothing of a benchmark is in it."""

from __future__ import annotations

import importlib
import json
import random
import re
import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "starter_it"
TEXT = (
    "Bees live together in a hive, and each of them has work to do. The queen lays eggs, the workers gather nectar. "
    "In summer a hive holds 40000 bees. In winter, they keep warm by moving close together. Their honey is sweet."
)


@pytest.fixture(scope="module")
def constraints():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(RECIPES)
        yield importlib.import_module("constraints")
        for name in ("constraints", "wordings"):
            sys.modules.pop(name, None)


def number(said):
    return int(re.search(r"\d+", said)[0])


def word_in(said):
    """The word that a wish names: what stands in quotes, else the word behind "word"."""
    found = re.search(r"""["'](\w+)["']|(?:word|keyword|Use|Say|Mention) (?!the )(\w+)""", said)
    return found[1] or found[2]


# What an answer must be, of what was said and the answer.
HOLDS = {
    "_at_least_words": lambda said, answer: len(re.findall(r"\w+", answer)) >= number(said),
    "_at_most_words": lambda said, answer: len(re.findall(r"\w+", answer)) < number(said),
    "_few_sentences": lambda said, answer: len(re.findall(r"[.!?](?:\s|$)", answer)) < number(said),
    "_many_sentences": lambda said, answer: len(re.findall(r"[.!?](?:\s|$)", answer)) >= number(said),
    "_no_commas": lambda said, answer: "," not in answer and answer.count(".") == TEXT.count("."),
    "_letter_often": lambda said, answer: answer.lower().count(re.search(r"letter (\w)\b", said)[1]) >= number(said),
    "_letter_seldom": lambda said, answer: answer.lower().count(re.search(r"letter (\w)\b", said)[1]) < number(said),
    "_word_seldom": lambda said, answer: answer.lower().count(word_in(said)) < number(said),
    "_word_often": lambda said, answer: answer.lower().count(word_in(said)) >= number(said),
    "_bullets": lambda said, answer: len(re.findall(r"^\* ", answer, re.MULTILINE)) == number(said),
    "_title": lambda said, answer: answer.startswith("<<About Bees>>\n"),
    "_highlights": lambda said, answer: len(re.findall(r"\*[^*\n]+\*", answer)) >= number(said),
    "_paragraphs": lambda said, answer: len(answer.split("\n\n***\n\n")) == number(said),
    "_blank_lines": lambda said, answer: len(answer.split("\n\n")) == number(said),
    "_sections": lambda said, answer: re.search(r"^\w+ 1\n", answer) is not None,
    "_new_word_often": lambda said, answer: answer.lower().count(word_in(said)) >= number(said),
    "_paragraph_start": lambda said, answer: (
        answer.split("\n\n")[int(re.search(r"(?:number|[Pp]aragraph) (\d)", said)[1]) - 1]
        .lower()
        .startswith(said.rstrip(".").rpartition(" ")[2])
        and len(answer.split("\n\n")) == int(re.search(r"(\d) paragraphs", said)[1])
    ),
    "_form": lambda said, answer: len(re.findall(r"\[[^\]]+\]", answer)) >= number(said),
    "_starred_parts": lambda said, answer: len(re.findall(r"\*[^*\n]+\*", answer)) >= number(said),
    "_as_json": lambda said, answer: json.loads(answer.removeprefix("```json\n").removesuffix("\n```"))["title"],
    "_two_answers": lambda said, answer: answer.endswith("\n\n******\n\nBees fly."),
    "_lower": lambda said, answer: answer == TEXT.lower(),
    "_upper": lambda said, answer: answer == TEXT.upper(),
    "_some_capitals": lambda said, answer: (
        (len(re.findall(r"\b[A-Z]{4,}\b", answer)) >= number(said))
        != bool(re.search(r"fewer than|less than|under", said.replace("no fewer", "").replace("no less", "")))
    ),
    "_quoted": lambda said, answer: answer[0] == answer[-1] == '"' and answer.count('"') == 2,
    "_ends_with": lambda said, answer: (
        answer.startswith(TEXT) and answer[len(TEXT) :].strip() and answer[len(TEXT) :].strip() in said
    ),
    "_postscript": lambda said, answer: re.search(r"P\.(?:P\.)?S\.?", said)[0] in answer.splitlines()[-1],
    "_repeats": lambda said, answer: answer.startswith("Tell me about bees.\n\nBees live"),
}


@pytest.mark.parametrize("name", HOLDS)
def test_an_answer_is_as_was_wished(constraints, name):
    plain = constraints.Plain("Tell me about bees.", TEXT, "About Bees", "Bees fly.")
    for seed in range(20):
        said, answer = getattr(constraints, name)(plain, random.Random(seed))
        assert HOLDS[name](said, answer), (said, answer)


def test_words_that_are_wished_for_or_not(constraints):
    plain = constraints.Plain("Tell me about bees.", TEXT, "About Bees")
    own = set(constraints._key_words(TEXT))
    for seed in range(40):
        said, answer = constraints._with_words(plain, random.Random(seed))
        wanted = set(re.findall(r"\w+", said)) & own
        assert wanted
        assert all(word in answer.lower() for word in wanted), (said, wanted)
        said, answer = constraints._new_words(plain, random.Random(seed))
        wanted = set(re.findall(r"\w+", said)) & set(constraints._UNUSUAL)
        assert wanted
        assert all(word in answer for word in wanted), (said, answer)
        said, answer = constraints._without_words(plain, random.Random(seed))
        forbidden = set(re.findall(r"\w+", said)) & set(constraints._FREQUENT)
        assert forbidden
        assert not any(word in answer.lower() for word in forbidden), said
        try:
            said, answer = constraints._without_own_word(plain, random.Random(seed))
        except ValueError:
            continue  # the word is in most sentences
        forbidden = set(re.findall(r"\w+", said)) & own
        assert forbidden
        assert not any(word in answer.lower() for word in forbidden), said


def test_a_wish_may_continue_the_request(constraints):
    draw = random.Random(0)
    found = constraints.asked("Tell me about bees.", ["in small letters", "No commas."], draw)
    assert re.fullmatch(r"Tell me about bees,? in small letters\.\s+No commas\.", found)
    assert constraints.asked("Why?", ["No jokes"], draw, first=False).split() == ["Why?", "No", "jokes."]
    with pytest.raises(ValueError, match="continue"):
        constraints.asked("Tell me about bees.", ["in small letters", "without commas"], draw)


def test_several_wishes_hold_together(constraints):
    plain = constraints.Plain("Tell me about bees.", TEXT, "About Bees", "Bees fly.")
    found, draw = [], random.Random(0)
    while len(found) < 50:
        try:
            found.append(constraints.constrained(plain, draw, 2))
        except ValueError:
            continue  # wishes that do not go together
    assert len({prompt for prompt, _ in found}) > 40
    for prompt, answer in found:
        if "comma" in prompt.lower():
            assert "," not in answer, (prompt, answer)


def test_no_wording_is_a_benchmarks(shared_folder, constraints):
    """Eight words in a row of a wish, or of an exchange written for the recipe, are in no prompt of IFEval."""
    import gzip

    def shingles(text):
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[begin : begin + 8]) for begin in range(len(words) - 7)}

    rows = gzip.decompress((shared_folder / "datasets" / "ifeval" / "input_data.jsonl.gz").read_bytes()).decode()
    known = set().union(*(shingles(json.loads(line)["prompt"]) for line in rows.split("\n") if line))
    plain = constraints.Plain("Tell me about bees.", TEXT, "About Bees", "Bees fly.")
    wishes = [*constraints.CONTENT, *constraints.LAYOUT, *constraints.AROUND]
    said = [wish(plain, random.Random(seed))[0] for wish in wishes for seed in range(50)]
    chats = [json.loads(line)["user"] for line in (RECIPES / "chats.jsonl").read_text(encoding="utf-8").splitlines()]
    assert not any(shingles(text) & known for text in [*said, *chats])
