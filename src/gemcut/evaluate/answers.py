"""What a task file's `answer` says: how a written answer is scored."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from gemcut.errors import DataError
from gemcut.evaluate.agieval_math import AgievalMathScorer
from gemcut.evaluate.code_answers import PROGRAMS, CodeScorer
from gemcut.evaluate.ifeval import IfevalScorer
from gemcut.evaluate.math_scorer import MathScorer
from gemcut.evaluate.metrics import Extraction, TextScorer
from gemcut.evaluate.refusal import RefusalScorer
from gemcut.evaluate.task import AnswerScorer

_KINDS: Mapping[str, Callable[[], AnswerScorer]] = {
    "math": MathScorer,
    "agieval_math": AgievalMathScorer,
    "ifeval": IfevalScorer,
    "refusal": RefusalScorer,
}
_TEXT_KEYS = {"kind": str, "extract": dict, "ignore_case": bool, "ignore_punctuation": bool, "remove": list}


def scorer_of(given: Mapping[str, Any] | None, where: str) -> AnswerScorer | None:
    """The scorer of a task file's `answer`; None where it has none.

    Raises:
        DataError: it says something that no answer has.
    """
    if given is None:
        return None
    kind = given.get("kind", "text")
    if kind == "text":
        return _text_scorer(given, where)
    if kind == "code":
        form = _check(given, where, {"kind": str, "form": str}).get("form")
        if not isinstance(form, str) or form not in PROGRAMS:
            raise DataError(f"{where}: form is {form!r}, expected one of {', '.join(PROGRAMS)}.")
        return CodeScorer(form)
    if kind not in _KINDS:
        raise DataError(f"{where}: kind is {kind!r}, expected one of text, code, {', '.join(_KINDS)}.")
    _check(given, where, {"kind": str})
    return _KINDS[kind]()


def _text_scorer(given: Mapping[str, Any], where: str) -> TextScorer:
    _check(given, where, _TEXT_KEYS)
    extractions = []
    for metric, how in given.get("extract", {"exact_match": {}}).items():
        found = _check(how or {}, f"{where}, {metric}", {"pattern": str, "which": int})
        pattern = _pattern(found["pattern"], f"{where}, {metric}") if "pattern" in found else None
        extractions.append(Extraction(str(metric), pattern, found.get("which", 0)))
    remove = tuple(_pattern(each, f"{where}, remove") for each in given.get("remove", ()))
    return TextScorer(
        tuple(extractions), given.get("ignore_case", False), given.get("ignore_punctuation", False), remove
    )


def _pattern(source: str, where: str) -> re.Pattern[str]:
    try:
        return re.compile(source)
    except (re.error, TypeError) as error:
        raise DataError(f"{where}: {source!r} is not a regular expression ({error}). Correct it.") from None


def _check(given: Any, where: str, kinds: Mapping[str, type]) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise DataError(f"{where}: is {given!r}, expected keys and values: {', '.join(kinds)}.")
    for key, value in given.items():
        if key not in kinds or not isinstance(value, kinds[key]):
            shape = ", ".join(f"{name} ({kind.__name__})" for name, kind in kinds.items())
            raise DataError(f"{where}: {key} is {value!r}, expected some of {shape}.")
    return given


__all__ = ["scorer_of"]
