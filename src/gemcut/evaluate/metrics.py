"""How the answers to one item are scored; the numbers are those of lm-evaluation-harness 0.4.13."""

from __future__ import annotations

import dataclasses
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

_PUNCTUATION = str.maketrans("", "", string.punctuation)
NOTHING_FOUND = "[invalid]"  # what an extraction gives that finds nothing; no right answer says so


class Scored(Protocol):
    """What a metric needs of a choice's score."""

    @property
    def logprob(self) -> float:
        """Natural logarithm of its probability."""


def acc(scores: Sequence[Scored], lengths: Sequence[int], gold: int) -> float:
    """1 where the right choice is the most probable one; of equals the first counts."""
    return float(np.argmax([score.logprob for score in scores]) == gold)


def acc_norm(scores: Sequence[Scored], lengths: Sequence[int], gold: int) -> float:
    """1 where the right choice has the largest log-probability for each of its characters."""
    per_character = [score.logprob / length for score, length in zip(scores, lengths, strict=True)]
    return float(np.argmax(per_character) == gold)


CHOICE_METRICS: Mapping[str, Callable[[Sequence[Scored], Sequence[int], int], float]] = {"acc": acc, "acc_norm": acc_norm}


@dataclasses.dataclass(frozen=True)
class Extraction:
    """What of a text is the answer.

    Attributes:
        metric: Name of the metric that this answer gives.
        pattern: A regular expression, whose groups are the answer, the first that took part; None for the whole text
            without the space around it.
        which: Of several matches: 0 for the first, -1 for the last.
    """

    metric: str
    pattern: re.Pattern[str] | None = None
    which: int = 0

    def find(self, text: str) -> str:
        """The answer in a text, or NOTHING_FOUND."""
        if self.pattern is None:
            return text.strip()
        found = self.pattern.findall(text)
        if not found:
            return NOTHING_FOUND
        chosen = found[self.which]
        if isinstance(chosen, tuple):
            chosen = next((group for group in chosen if group), NOTHING_FOUND)
        return str(chosen).strip()


@dataclasses.dataclass(frozen=True)
class TextScorer:
    """Whether a written answer is one of the right ones.

    Attributes:
        extractions: Ways to find the answer; each is a metric.
        ignore_case, ignore_punctuation: What may differ.
        remove: Regular expressions whose matches do not count, in answer and truth.
    """

    extractions: tuple[Extraction, ...]
    ignore_case: bool = False
    ignore_punctuation: bool = False
    remove: tuple[re.Pattern[str], ...] = ()

    def score(self, text: str, right: Sequence[str]) -> dict[str, float]:
        """1 for each extraction that gives one of the right answers."""
        accepted = {self._plain(each) for each in right}
        return {each.metric: float(self._plain(each.find(text)) in accepted) for each in self.extractions}

    def _plain(self, text: str) -> str:
        for pattern in self.remove:
            text = pattern.sub("", text)
        text = text.lower() if self.ignore_case else text
        return text.translate(_PUNCTUATION) if self.ignore_punctuation else text
