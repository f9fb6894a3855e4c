"""Bytes that running texts may take."""

from __future__ import annotations

import pytest

from gemcut.errors import ContextLengthError
from gemcut.generate.cache_budget import CacheBudget


def test_bytes_are_taken_and_given_back():
    budget = CacheBudget(100)
    budget.take("a", 60)
    assert (budget.used, budget.has_room(40), budget.has_room(41)) == (60, True, False)
    budget.give_back("b")
    budget.give_back("a")
    budget.give_back("a")
    assert (budget.used, budget.has_room(100)) == (0, True)


def test_what_is_larger_than_everything_is_refused():
    budget = CacheBudget(100)
    budget.take("a", 100)
    budget.check(100, 10)  # there will be room
    message = "prompt: with its answer it may have 11 tokens, which take 101 bytes of memory, but all texts"
    with pytest.raises(ContextLengthError, match=message):
        budget.check(101, 11)


def test_without_a_limit_everything_fits():
    budget = CacheBudget()
    budget.check(1 << 60, 1)
    budget.take("a", 1 << 60)
    assert budget.has_room(1 << 60)
