"""Whether a short answer of AGIEval's mathematics is right; the numbers are those of lm-evaluation-harness 0.4.13."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from gemcut.evaluate.data import Row

_NUMBER = re.compile(r"(?:\$)?\d+(?:\.\d+)?(?![\w\d])")
_REMOVED = ("\n", "\\!")
_REWRITTEN = (("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"))
_REMOVED_AFTERWARDS = ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$")


@dataclasses.dataclass(frozen=True)
class AgievalMathScorer:
    """Whether two answers are written alike, after what both mean is brought into one form."""

    metrics: tuple[str, ...] = ("acc",)

    def score(self, text: str, row: Row, right: Sequence[str]) -> dict[str, float]:
        """1 where the answer found in `text` is the one found in the right answer."""
        return {"acc": float(_are_alike(answer_in(text), answer_in(right[0])))}


def answer_in(text: str) -> str | None:
    """What a text says the answer is: its box, else between its last dollar signs, else after its last "=" or its
    last number; after the last "=" of what was found.
    """
    if "\\boxed" in text:
        return _boxed(text)
    if dollars := re.findall(r"\$(.*)\$", text):
        found = dollars[-1].split("=")[-1].lstrip(" ") if "=" in dollars[-1] else dollars[-1]
        if found:
            return str(found)
    if "=" in text:
        return text.split("=")[-1].lstrip(" ").rstrip(".").split("\\n")[0]
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else None


def _boxed(text: str) -> str | None:
    start = text.rfind("\\boxed")
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if text[place] == "}" and not depth:
            box = text[start : place + 1]
            if not box.startswith("\\boxed{"):
                return None
            answer = box[len("\\boxed{") : -1]
            return answer.split("=")[-1].lstrip(" ") if "=" in answer else answer
    return None


def _are_alike(first: str | None, second: str | None) -> bool:
    if first is None or second is None:
        return first == second  # nothing found on both sides counts as right there
    try:
        return one_form(first) == one_form(second)
    except (ValueError, IndexError):
        return first == second


def one_form(answer: str) -> str:
    """An answer as one text for all the ways in which it can be written.

    Raises:
        ValueError, IndexError: it is cut off inside a command, or names two units.
    """
    for removed in _REMOVED:
        answer = answer.replace(removed, "")
    for before, after in _REWRITTEN:
        answer = answer.replace(before, after)
    for removed in _REMOVED_AFTERWARDS:
        answer = answer.replace(removed, "")
    if "\\text{ " in answer:  # a unit, which stands behind
        answer, _ = answer.split("\\text{ ")
    answer = answer.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if not answer:
        return answer
    answer = "0" + answer if answer.startswith(".") else answer
    sides = answer.split("=")
    if len(sides) == 2 and len(sides[0]) <= 2:  # k = 1
        answer = sides[1]
    answer = _with_braces(_with_root_braces(answer).replace(" ", ""))
    return _as_fraction("\\frac{1}{2}" if answer == "0.5" else answer)


def _with_root_braces(answer: str) -> str:
    first, *rest = answer.split("\\sqrt")
    return first + "".join("\\sqrt" + (part if part[0] == "{" else f"{{{part[0]}}}{part[1:]}") for part in rest)


def _with_braces(answer: str) -> str:
    """With braces around a fraction's parts of one character."""
    first, *rest = answer.split("\\frac")
    parts = [first]
    for part in rest:
        if part[0] == "{":
            parts.append("\\frac" + part)
        elif len(part) < 2:
            return answer
        else:
            below = part[1:] if part[1] == "{" else f"{{{part[1]}}}{part[2:]}"
            parts.append(f"\\frac{{{part[0]}}}{below}")
    return "".join(parts)


def _as_fraction(answer: str) -> str:
    """A slash between two integers as a fraction."""
    found = re.fullmatch(r"(0|-?[1-9]\d*)/(0|-?[1-9]\d*)", answer)
    return f"\\frac{{{found[1]}}}{{{found[2]}}}" if found else answer


__all__ = ["AgievalMathScorer", "answer_in", "one_form"]
