"""Stop strings cut the text where they would in the whole text, wherever the pieces end."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gemcut.errors import UsageError
from gemcut.generate.stopping import StopStrings

letters = st.text(alphabet="ab\n", max_size=12)


def cut(text, stops):
    """The text before the stop that is complete first, by `str.find` on the whole of it."""
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return text[: min(found)[1]] if found else text


@given(
    pieces=st.lists(letters, max_size=8), stops=st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3)
)
@example(pieces=["ab", "c"], stops=["bc"])
@example(pieces=["a", "b", "c", "d"], stops=["abcd", "bc"])
@example(pieces=["abcd"], stops=["abcd", "bc"])
@example(pieces=["aab"], stops=["ab", "aab"])
@example(pieces=["aa", "aab"], stops=["aaab"])
def test_cut_is_that_of_the_whole_text(pieces, stops):
    stopping = StopStrings(stops)
    text = "".join(pieces)
    shown = [stopping.push(piece) for piece in pieces]
    assert cut(text, stops).startswith("".join(shown))  # nothing is shown that is taken back
    shown.append(stopping.finish())
    assert "".join(shown) == cut(text, stops)
    assert (stopping.found is not None) == (cut(text, stops) != text)


@settings(derandomize=True, database=None)
@given(pieces=st.lists(letters, max_size=8))
def test_what_cannot_become_a_stop_is_shown_at_once(pieces):
    stopping = StopStrings(["aab"])
    text = ""
    for piece in pieces:
        text += piece
        shown = stopping.push(piece)
        if stopping.found is not None:
            break
        held = next(held for held in ("aa", "a", "") if text.endswith(held))
        assert stopping._held == held
        assert shown.endswith(text[: len(text) - len(held)][-1:]) or not shown


def test_nothing_comes_after_a_stop():
    stopping = StopStrings(["."])
    assert stopping.push("one. two") == "one"
    assert stopping.push(" three") == ""
    assert stopping.finish() == ""


def test_empty_stop_string_is_an_error():
    with pytest.raises(UsageError, match="stop: a stop string is empty, expected at least one character"):
        StopStrings(["a", ""])
