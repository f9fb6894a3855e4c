"""What a task file's `answer` says: how a written answer is scored."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gemcut.errors import DataError
from gemcut.evaluate.agieval_math import AgievalMathScorer
from gemcut.evaluate.data import Row
from gemcut.evaluate.ifeval import IfevalScorer
from gemcut.evaluate.math_scorer import MathScorer
from gemcut.evaluate.metrics import Extraction, TextScorer
from gemcut.evaluate.task import AnswerScorer

CODE_FORMS = ("humaneval", "mbpp")
_KINDS: Mapping[str, Callable[[], AnswerScorer]] = {
    "math": MathScorer,
    "agieval_math": AgievalMathScorer,
    "ifeval": IfevalScorer,
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
        if form not in CODE_FORMS:
            raise DataError(f"{where}: form is {form!r}, expected one of {', '.join(CODE_FORMS)}.")
        return ProgramScorer(form)
    if kind not in _KINDS:
        raise DataError(f"{where}: kind is {kind!r}, expected one of text, code, {', '.join(_KINDS)}.")
    _check(given, where, {"kind": str})
    return _KINDS[kind]()


@dataclasses.dataclass(frozen=True)
class ProgramScorer:
    """Whether a written program passes its tests; it is run to see.

    Attributes:
        form: Which benchmark's tests they are.
    """

    form: str
    metrics: tuple[str, ...] = ("pass@1",)
    executes_code: bool = True

    def score(self, text: str, row: Row, right: Sequence[str]) -> dict[str, float]:
        """1 where all tests pass.

        Raises:
            UsageError: running programs was not allowed.
        """
        from gemcut.evaluate.code_answers import CodeScorer

        return dict(CodeScorer(self.form).score(text, row))


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


__all__ = ["ProgramScorer", "scorer_of"]
