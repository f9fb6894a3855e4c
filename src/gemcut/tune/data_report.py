"""The report before the first step: what the data is, what became of it, and what the model meets."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gemcut.text import Tokenizer
from gemcut.tune.batches import Batches
from gemcut.tune.fitting import Changed
from gemcut.tune.packing import Rows
from gemcut.tune.samples import Sample
from gemcut.tune.training_data import DataFile, TrainingData

FORMAT = 1
_NUM_BINS = 16
_FEW_TARGETS = 0.05
_MAX_PIECE_TOKENS = 600  # of the sample that is shown


@dataclasses.dataclass(frozen=True)
class Lengths:
    """How long samples are, in tokens.

    Attributes:
        shortest, median, mean, p95, longest: Of all samples.
        edges: Of the histogram's bins; bin i holds lengths from edges[i], included, to edges[i + 1].
        counts: Samples in each bin.
    """

    shortest: int
    median: float
    mean: float
    p95: float
    longest: int
    edges: tuple[int, ...]
    counts: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Equal samples: how many have a twin before them, and for each such group where its members are."""

    num_extra: int
    groups: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Bos:
    """The token that begins a text: its id; in how many samples it is once, more than once, not at all."""

    token_id: int | None
    once: int
    more: int
    missing: int


@dataclasses.dataclass(frozen=True)
class ShownSample:
    """One sample as text: its pieces, each with whether it is learnt; `num_hidden` tokens at the end are left out."""

    source: str
    pieces: tuple[tuple[str, bool], ...]
    num_tokens: int
    num_targets: int
    num_hidden: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """Rows and steps.

    Attributes:
        num_rows: Rows of an epoch.
        length: Tokens of a row.
        packing: Whether rows hold several samples.
        efficiency: Share of the rows' positions that hold tokens.
        unpacked_efficiency: What it would be with one sample a row, rows as long as the longest sample.
        batch_size, accumulation: As in the recipe.
        steps_per_epoch, num_steps: Of the optimiser.
        targets_per_step: Tokens that a step learns from, on average.
    """

    num_rows: int
    length: int
    packing: bool
    efficiency: float
    unpacked_efficiency: float
    batch_size: int
    accumulation: int
    steps_per_epoch: int
    num_steps: int
    targets_per_step: float


@dataclasses.dataclass(frozen=True)
class DataReport:
    """What is known of a run's data before its first step.

    Attributes:
        model: Its reference.
        files, held_out_files: What was read.
        template: How text is written, in words.
        loss_on: What is learnt, in words.
        num_samples, num_tokens, num_targets: Of what is trained on, in one epoch.
        num_held_out, num_held_out_tokens: Samples and tokens that are held out.
        lengths: Of the samples that are trained on.
        changed: Samples that were cut or left out.
        duplicates: Among the samples that are trained on.
        bos: The check of the token that begins a text.
        plan: Rows and steps.
        shown: One sample.
        notices: What deserves a look.
    """

    model: str
    files: tuple[DataFile, ...]
    held_out_files: tuple[DataFile, ...]
    template: str
    loss_on: str
    num_samples: int
    num_tokens: int
    num_targets: int
    num_held_out: int
    num_held_out_tokens: int
    lengths: Lengths
    changed: Changed
    duplicates: Duplicates
    bos: Bos
    plan: Plan
    shown: ShownSample
    notices: tuple[str, ...]

    @property
    def share_learnt(self) -> float:
        """Share of the tokens that are learnt."""
        return self.num_targets / self.num_tokens

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values; keys are the attributes' names."""
        return {"format": FORMAT, **dataclasses.asdict(self), "share_learnt": self.share_learnt}


def build_report(data: TrainingData) -> DataReport:
    """The report on a run's data."""
    tokenizer = data.model.tokenizer
    report = DataReport(
        model=data.model.name,
        files=data.files,
        held_out_files=data.held_out_files,
        template=_template_in_words(data),
        loss_on=_loss_in_words(data),
        num_samples=len(data.samples),
        num_tokens=data.rows.num_tokens,
        num_targets=data.rows.num_targets,
        num_held_out=len(data.held_out_samples),
        num_held_out_tokens=sum(map(len, data.held_out_samples)),
        lengths=lengths_of([len(sample) for sample in data.samples]),
        changed=data.changed,
        duplicates=_duplicates(data.samples),
        bos=_bos(data.samples, tokenizer),
        plan=_plan(data.rows, data.batches(), data),
        shown=show_sample(data.samples[0], tokenizer),
        notices=(),
    )
    return dataclasses.replace(report, notices=tuple(_notices(report, data)))


def lengths_of(sizes: Sequence[int]) -> Lengths:
    """Statistics and histogram of the lengths of at least one sample; the bins' width is a round number."""
    values = np.asarray(sizes)
    longest = int(values.max())
    width = _round_up((longest + 1) / _NUM_BINS)
    edges = np.arange(0, longest + width + 1, width)
    first = int(np.searchsorted(edges, values.min(), side="right")) - 1
    edges = edges[first:]
    counts, _ = np.histogram(values, edges)
    return Lengths(
        shortest=int(values.min()),
        median=float(np.median(values)),
        mean=float(values.mean()),
        p95=float(np.percentile(values, 95)),
        longest=longest,
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
    )


def show_sample(sample: Sample, tokenizer: Tokenizer) -> ShownSample:
    """A sample as text, cut where what is learnt begins and ends, control tokens included."""
    ids, flags = sample.token_ids[:_MAX_PIECE_TOKENS], sample.is_target[:_MAX_PIECE_TOKENS].copy()
    flags[0] = False  # nothing comes before it
    borders = [0, *(np.flatnonzero(flags[1:] != flags[:-1]) + 1).tolist(), len(ids)]
    pieces = tuple(
        (tokenizer.decode(ids[begin:end].tolist(), skip_special=False, continues_prompt=begin > 0), bool(flags[begin]))
        for begin, end in itertools.pairwise(borders)
    )
    return ShownSample(sample.source, pieces, len(sample), sample.num_targets, len(sample) - len(ids))


def counted(number: int, noun: str) -> str:
    """A number of things, such as "1 row" and "2 rows"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _round_up(value: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50, ..."""
    power = 10 ** max(math.floor(math.log10(value)), 0)
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value)


def _duplicates(samples: Sequence[Sample]) -> Duplicates:
    groups: dict[bytes, list[str]] = {}
    for sample in samples:
        groups.setdefault(sample.digest(), []).append(sample.source)
    found = tuple(tuple(sources) for sources in groups.values() if len(sources) > 1)
    return Duplicates(len(samples) - len(groups), found)


def _bos(samples: Sequence[Sample], tokenizer: Tokenizer) -> Bos:
    token_id = tokenizer.bos_token_id
    if token_id is None:
        return Bos(None, 0, 0, len(samples))
    counts = np.array([np.count_nonzero(sample.token_ids == token_id) for sample in samples])
    once, missing = int(np.count_nonzero(counts == 1)), int(np.count_nonzero(counts == 0))
    return Bos(token_id, once, len(samples) - once - missing, missing)


def _plan(rows: Rows, batches: Batches, data: TrainingData) -> Plan:
    longest = max(len(sample) for sample in data.samples)
    return Plan(
        num_rows=len(rows),
        length=rows.length,
        packing=data.recipe.samples.packing,
        efficiency=rows.num_tokens / (len(rows) * rows.length),
        unpacked_efficiency=rows.num_tokens / (len(data.samples) * longest),
        batch_size=data.recipe.batch_size,
        accumulation=data.recipe.accumulation,
        steps_per_epoch=batches.steps_per_epoch,
        num_steps=batches.num_steps,
        targets_per_step=rows.num_targets / batches.steps_per_epoch,
    )


def _template_in_words(data: TrainingData) -> str:
    if data.template is not None:
        return data.template.where
    return f"none: plain text, {data.model.tokenizer.piece_of(data.model.tokenizer.eos_token_id or 0)} at the end"


def _loss_in_words(data: TrainingData) -> str:
    if data.recipe.samples.loss_on == "assistant":
        return "every turn of the assistant" if data.template is not None else "the completion"
    return "the last turn of the assistant" if data.template is not None else "the completion"


def _notices(report: DataReport, data: TrainingData) -> Iterator[str]:
    """What deserves a look, in the user's words."""
    changed, plan = report.changed, report.plan
    if data.template is not None and data.template.is_builtin:
        yield f"{data.model.name} brings no chat template; its family's is used ({data.template.where})."
    if data.template is None and any(file.format.name == "alpaca" for file in data.files):
        yield "Alpaca records are written with ### Instruction:, ### Input: and ### Response:, as there is no template."
    for file in (*data.files, *data.held_out_files):
        if file.format.unused:
            yield f"{file.path}: these columns are not used: {', '.join(file.format.unused)}."
    if data.num_unlearnt_turns:
        turns = counted(data.num_unlearnt_turns, "earlier turn")
        yield f"Not learnt: {turns} of the assistant; --loss-on assistant learns all."
    if data.num_apart:
        yield (
            f"In {counted(data.num_apart, 'sample')} prompt and completion meet within a token (does the prompt end "
            "with a space?); they are encoded apart, as generation meets them."
        )
    if report.share_learnt < _FEW_TARGETS:
        yield f"Only {report.share_learnt:.1%} of the tokens are learnt; the rest is computed for what is given alone."
    if extra := report.duplicates.num_extra:
        yield f"Equal to an earlier one: {counted(extra, 'sample')}; each is trained on as often as it comes."
    if report.bos.missing and report.bos.token_id is not None:
        yield "The tokenizer puts no BOS before texts, as its settings say; Gemma models need it."
    if changed.truncated:
        cut = counted(len(changed.truncated), "sample")
        yield f"Cut at {counted(plan.length, 'token')}: {cut}; their ends, and their end markers, are not learnt."
    if plan.steps_per_epoch == 1 and plan.num_rows > 1:
        yield "One step takes all rows. A smaller --batch, --accumulation or --sequence-length gives more steps."


__all__ = [
    "Bos",
    "DataReport",
    "Duplicates",
    "Lengths",
    "Plan",
    "ShownSample",
    "build_report",
    "counted",
    "show_sample",
]
