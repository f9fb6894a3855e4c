"""The announcement's sentences, derived anew from the published table; nothing here is measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from gemcut.evaluate.groups import Group, load_groups, published_means
from gemcut.evaluate.published import (
    BASELINES,
    benchmark_title,
    choose_column,
    columns,
    published_data,
    published_scores,
    scores_of,
    tasks_of,
)
from gemcut.evaluate.run_folder import RunFolder

SUBJECT = "gemma-7b"
LLAMAS = ("llama-2-7b", "llama-2-13b")
RIVALS = (*LLAMAS, "mistral-7b")
NARROW_POINTS = 1.0  # what "narrowly" is taken to mean
AVERAGE_ROUNDING = 0.1001  # rows and averages are printed with one decimal


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A row of figures behind a claim, in points.

    Attributes:
        what: A benchmark, or a group.
        published: By column.
        measured: What a run gave for it: "metric", "value", "stderr", "low", "high"; None where it gave nothing.
    """

    what: str
    published: Mapping[str, float]
    measured: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence and what the published figures say of it.

    Attributes:
        sentence: In our words.
        verdict: "holds", "holds in part" or "does not hold".
        because: The figures in words.
        evidence: The figures.
    """

    sentence: str
    verdict: str
    because: str
    evidence: tuple[Evidence, ...]


@dataclasses.dataclass(frozen=True)
class Claims:
    """All claims.

    Attributes:
        claims: One a sentence.
        groups: The groups that were taken, with their members; the announcement prints none.
        record: By source, errors that the published record itself has, and what must be known of it.
        measured_model: Name of the run's model; None without a run.
        measured_as: The published column that this model is, in words; None without a run.
    """

    claims: tuple[Claim, ...]
    groups: tuple[Group, ...]
    record: tuple[tuple[str, tuple[str, ...]], ...]
    measured_model: str | None
    measured_as: str | None

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"figures": "published, not measured here, but for those under measured", **dataclasses.asdict(self)}


def derive_claims(run: RunFolder | None = None) -> Claims:
    """The announcement's claims from the published table.

    Args:
        run: A run whose figures are put beside; they change no verdict.

    Raises:
        NotFoundError, DataError: of the run's files.
    """
    groups = load_groups()
    rows = _Rows(run, groups)
    claims = (
        _llama_claim(rows),
        _group_claim(rows, "coding", RIVALS, "Gemma 7B is ahead in coding."),
        _group_claim(rows, "maths and science", RIVALS, "Gemma 7B is ahead in maths and science."),
        _narrow_claim(rows),
        _behind_claim(rows),
        _eleven_claim(rows),
        _larger_claim(rows),
    )
    column, why = choose_column(run.facts["model"]) if run else (None, "")
    return Claims(
        claims=claims,
        groups=tuple(groups),
        record=tuple(_record()),
        measured_model=run.model_name if run else None,
        measured_as=(f"{column.title} ({why})" if column else why) if run else None,
    )


class _Rows:
    """Figures of benchmarks and groups, published and measured."""

    def __init__(self, run: RunFolder | None, groups: Sequence[Group]) -> None:
        from gemcut.evaluate.report import build_report

        self._members = {group.name: group.members for group in groups}
        report = build_report(run, "none") if run else {"tasks": [], "groups": []}
        self._tasks = {each["name"]: each["metrics"] for each in report["tasks"]}
        self._means = {each["name"]: each for each in report["groups"]}

    def benchmark(self, key: str) -> Evidence:
        published = {column: scores_of(column, key)[0].score for column in BASELINES}
        task = next((self._tasks[name] for name in tasks_of(key) if name in self._tasks), None)
        return Evidence(benchmark_title(key), published, _measured(task[0]) if task else None)

    def group(self, name: str) -> Evidence:
        found = self._means.get(name)
        measured = _measured({**found, "metric": "mean"}) if found and found["is_complete"] else None
        return Evidence(name, published_means(self._members[name]), measured)


def _measured(figure: Mapping[str, Any]) -> dict[str, Any]:
    return {key: figure[key] for key in ("metric", "value", "stderr", "low", "high")}


def _llama_claim(rows: _Rows) -> Claim:
    evidence = tuple(rows.benchmark(key) for key in ("mmlu", "hellaswag", "humaneval"))
    won = [
        (each.what, rival) for each in evidence for rival in LLAMAS if each.published[SUBJECT] > each.published[rival]
    ]
    return Claim(
        "Gemma 7B is above Llama 2 7B and 13B on MMLU, HellaSwag and HumanEval.",
        _word(len(won), 6),
        f"it is above in {len(won)} of 6 comparisons; the closest is HellaSwag, "
        f"{_gap(evidence[1], 'llama-2-13b'):+.1f} to Llama 2 13B",
        evidence,
    )


def _group_claim(rows: _Rows, group: str, rivals: Sequence[str], sentence: str) -> Claim:
    evidence = rows.group(group)
    won = [rival for rival in rivals if _gap(evidence, rival) > 0]
    gaps = ", ".join(f"{_gap(evidence, rival):+.1f} to {columns()[rival].title}" for rival in rivals)
    return Claim(sentence, _word(len(won), len(rivals)), f"means of the group: {gaps}", (evidence,))


def _narrow_claim(rows: _Rows) -> Claim:
    evidence = rows.group("reasoning")
    closest = min(RIVALS, key=lambda rival: _gap(evidence, rival))
    gap = _gap(evidence, closest)
    word = "does not hold" if gap <= 0 else "holds" if gap < NARROW_POINTS else "holds in part"
    return Claim(
        "Gemma 7B is narrowly ahead in reasoning.",
        word,
        f"{gap:+.2f} to {columns()[closest].title}, the next; narrow is taken to mean less than {NARROW_POINTS:g} "
        "point. Most members of the group are our choice, and another choice can turn a gap of this size",
        (evidence,),
    )


def _behind_claim(rows: _Rows) -> Claim:
    evidence = rows.group("question answering")
    gap = _gap(evidence, "llama-2-13b")
    others = ", ".join(
        f"{_gap(evidence, rival):+.1f} to {columns()[rival].title}" for rival in ("llama-2-7b", "mistral-7b")
    )
    return Claim(
        "Gemma 7B is below Llama 2 13B in question answering.",
        "holds" if gap < 0 else "does not hold",
        f"{gap:+.1f} to Llama 2 13B; {others}",
        (evidence,),
    )


def _eleven_claim(rows: _Rows) -> Claim:
    evidence = [rows.benchmark(key) for key in benchmarks()]
    best = [each for each in evidence if each.published[SUBJECT] >= max(each.published[rival] for rival in RIVALS)]
    tied = [each.what for each in best if each.published[SUBJECT] == max(each.published[rival] for rival in RIVALS)]
    strictly = len(best) - len(tied)
    return Claim(
        f"Gemma 7B is best on 11 of {len(evidence)} benchmarks.",
        "holds" if strictly == 11 else "holds in part" if len(best) == 11 else "does not hold",
        f"strictly best on {strictly}, tied on {len(tied)} ({', '.join(tied) or 'none'}): 11 only if a tie counts",
        tuple(best),
    )


def _larger_claim(rows: _Rows) -> Claim:
    evidence = [rows.benchmark(key) for key in benchmarks()]
    above = [each for each in evidence if _gap(each, "llama-2-13b") > 0]
    below = [each for each in evidence if each not in above]
    return Claim(
        "Gemma 7B surpasses a larger model, Llama 2 13B.",
        _word(len(above), len(evidence)),
        f"above on {len(above)} of {len(evidence)} benchmarks, not on {', '.join(each.what for each in below)}",
        tuple(below),
    )


def benchmarks() -> list[str]:
    """The 18 benchmarks of the report's table, in its order."""
    return [row["benchmark"] for row in published_data()["tables"][0]["rows"]]


def _record() -> list[tuple[str, tuple[str, ...]]]:
    """By source: averages that are not those of its rows, and what must be known of it."""
    found: dict[str, list[str]] = {}
    for table in published_data()["tables"]:
        for index, (column, printed) in enumerate(
            zip(table["columns"], table.get("printed_averages", ()), strict=False)
        ):
            scores = [row["scores"][index] for row in table["rows"]]
            average = sum(scores) / len(scores)
            if abs(average - printed) > AVERAGE_ROUNDING:
                title = columns()[column].title
                line = f"Prints the average {printed:.1f} for {title}; that of its rows is {average:.1f}."
                found.setdefault(table["source"], []).append(line)
        if table["columns"] in (list(BASELINES), ["mistral-7b", SUBJECT]):
            found.setdefault(table["source"], []).extend(table["notes"])
    for score in published_scores():
        if score.column in ("gemma-2b", SUBJECT) and (own := [each for each in score.notes if "cell" in each]):
            where = f"{benchmark_title(score.benchmark)}, {columns()[score.column].title}"
            found.setdefault(score.source, []).extend(f"{where}: {each}" for each in own)
    return [(source, tuple(lines)) for source, lines in found.items()]


def _gap(evidence: Evidence, rival: str) -> float:
    """Points of Gemma 7B above another, without the noise of binary fractions."""
    return round(evidence.published[SUBJECT] - evidence.published[rival], 6)


def _word(num_true: int, num_all: int) -> str:
    return "holds" if num_true == num_all else "holds in part" if num_true else "does not hold"


__all__ = ["Claim", "Claims", "Evidence", "benchmarks", "derive_claims"]
