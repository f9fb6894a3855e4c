"""Whether a written solution of a MATH problem is right; the numbers are those of lm-evaluation-harness 0.4.13.

Run as a program it answers JSON lines: mathematics that takes too long or too much memory ends this process alone, see
`math_scorer`.

Source: how answers are normalised: Lewkowycz et al. 2022 (Minerva), arXiv:2206.14858, appendix D.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
from collections.abc import Iterator
from typing import Any

# Of computing, for one step; the harness has as many by the clock, so a busy machine changes its scores.
TIME_LIMIT_SECONDS = 5.0
MEMORY_LIMIT_BYTES = 4 << 30
NO_ANSWER = "[invalidanswer]"

_REPLACED = (
    ("an ", ""), ("a ", ""), (".$", "$"), ("\\$", ""), ("\\ ", ""), (" ", ""), ("mbox", "text"),
    (",\\text{and}", ","), ("\\text{and}", ","), ("\\text{m}", "\\text{}"),
)  # fmt: skip
_REMOVED = (
    "square", "ways", "integers", "dollars", "mph", "inches", "ft", "hours", "km", "units", "\\ldots", "sue", "points",
    "feet", "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds", "meters", "meals", "edges", "students",
    "childrentickets", "multiples", "\\text{s}", "\\text{.}", "\\text{\ns}", "\\text{}^2", "\\text{}^3", "\\text{\n}",
    "\\text{}", "\\mathrm{th}", "^\\circ", "^{\\circ}", "\\;", ",\\!", "{,}", '"', "\\dots",
)  # fmt: skip
_REWRITTEN = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r".*?\$(.*?)\$.*", r"$\1$"),  # what stands between the first dollar signs of a line
        (r"\\text\{(.*?)\}", r"\1"),
        (r"\\textbf\{(.*?)\}", r"\1"),
        (r"\\overline\{(.*?)\}", r"\1"),
        (r"\\boxed\{(.*)\}", r"\1"),
        (r"frac([^{])(.)", r"frac{\1}{\2}"),
        (r"sqrt(\[[^\]]*\])(\w)", r"sqrt\1{\2}"),
        (r"sqrt(?!\[)([^{])", r"sqrt{\1}"),
    )
)
_COMMAND = re.compile(r"(\\[a-zA-Z]+)")
_THOUSANDS = re.compile(r"-?\d{1,3}(,\d{3})+")
_FINAL = re.compile(r"Final Answer: The final answer is(.*?). I hope it is correct.")


def final_answer(text: str) -> str:
    """What a solution says its answer is, as the fixed examples say it; NO_ANSWER where it does not."""
    found = _FINAL.search(text + "I hope it is correct.")
    return found[1].strip() if found else NO_ANSWER


def boxed_answer(solution: str) -> str:
    """What stands in the last box of a reference solution."""
    if "\\boxed " in solution:
        return solution.split("\\boxed ")[-1].split("$")[0]
    _, _, rest = solution.rpartition("\\boxed{")
    depth = 1
    for place, character in enumerate(rest):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if not depth:
            return rest[:place]
    return rest


def normalised(answer: str) -> str:
    """An answer in the form in which answers are compared: without units, words, and other ways to write the same."""
    answer = answer.split("=")[-1]
    for unit in filter(str.isalpha, _REMOVED):
        answer = re.sub(rf"(?<!\\)\b{unit}\b", "", answer)
    for before, after in _REPLACED:
        answer = answer.replace(before, after)
    for removed in _REMOVED:
        answer = _without(removed, answer) if removed.isalpha() else answer.replace(removed, "")
    for pattern, replacement in _REWRITTEN:
        answer = pattern.sub(replacement, answer)
    answer = answer.replace("$", "")
    return answer.replace(",", "") if _THOUSANDS.fullmatch(answer) else answer


def _without(word: str, answer: str) -> str:
    """Without a word wherever it stands, but in the name of a LaTeX command."""
    parts = _COMMAND.split(answer)  # every second one is such a name
    return "".join(part if place % 2 else part.replace(word, "") for place, part in enumerate(parts))


def are_equal(first: str, second: str) -> bool:
    """Whether two normalised answers are the same text, or the same to SymPy."""
    if first and first == second:
        return True
    import sympy
    from sympy.parsing.latex import parse_latex

    try:
        with _time_limit():
            return bool(sympy.simplify(parse_latex(first) - parse_latex(second)) == 0)
    except Exception:  # noqa: BLE001 - SymPy raises anything; what cannot be compared is not equal
        return False


def are_equal_to_math_verify(solution: str, text: str) -> bool:
    """Whether the library math-verify finds the solution's answer in a text."""
    from math_verify import parse, verify

    try:
        with _time_limit():
            right = parse(solution, parsing_timeout=None)
        with _time_limit():
            answer = parse(text, parsing_timeout=None)
        with _time_limit():
            return bool(verify(right, answer, timeout_seconds=None))
    except TimeoutError:
        return False


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, TIME_LIMIT_SECONDS, 1.0)  # again each second: libraries may catch the first
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def scores(text: str, solution: str) -> dict[str, float]:
    """Both scores of a written solution."""
    answer, right = normalised(final_answer(text)), normalised(boxed_answer(solution))
    return {
        "exact_match": float(are_equal(answer, right)),
        "math_verify": float(are_equal_to_math_verify(solution, text)),
    }


def main() -> None:
    """Answer a JSON list [text, solution] on each line of standard input with its scores."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    for line in sys.stdin:
        print(json.dumps(scores(*json.loads(line))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()

__all__ = ["are_equal", "boxed_answer", "final_answer", "normalised", "scores"]
