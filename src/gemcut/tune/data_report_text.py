"""The report on the data in a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gemcut.tune.data_report import Bos, DataReport, Lengths, ShownSample, counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_BAR = 30
_MAX_LISTED = 8
_MAX_PLACES = 24
_MAX_EQUAL = 6
_MAX_CHARACTERS = 2400
_EIGHTHS = " ▏▎▍▌▋▊▉"


def report_text(report: DataReport, width: int = 80) -> str:
    """The report as plain text, with lines of at most `width` characters."""
    from rich.console import Console

    out = io.StringIO()
    _print(report, Console(file=out, width=width, highlight=False, force_terminal=False, force_jupyter=False))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def print_report(report: DataReport) -> None:
    """Print the report on standard output, in colours on a terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        _print(report, console)
    else:
        sys.stdout.write(report_text(report, console.width))


def _print(report: DataReport, console: Console) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console.print(Text(f"Data for tuning {report.model}", style="bold"))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields(report):
        table.add_row(name, value)
    console.print(table)
    console.print(Text("\nTokens a sample", style="bold"))
    for line in histogram(report.lengths, report.plan.length):
        console.print(line, no_wrap=True)
    for title, places in changes(report):
        console.print(Text(f"\n{title}", style="bold yellow"))
        for place in places:
            console.print(Padding(Text(place), (0, 0, 0, 2)))
    if report.notices:
        console.print(Text("\nNotice", style="bold yellow"))
        for notice in report.notices:
            console.print(Padding(Text(notice), (0, 0, 0, 2)))
    console.print(Text("\nOne sample, as the model meets it", style="bold"))
    sample = _sample(report.shown, is_coloured=console.is_terminal and not console.no_color)
    console.print(sample, end="" if sample.plain.endswith("\n") else "\n")


def fields(report: DataReport) -> list[tuple[str, str]]:
    """Names and values, in the order in which they are read."""
    lengths = report.lengths
    rows = [
        ("files" if i == 0 else "", f"{file.path}\n{counted(file.num_records, 'record')}, {file.format.in_words()}")
        for i, file in enumerate(report.files)
    ]
    rows += [
        ("template", report.template),
        ("learnt", f"{report.loss_on}: {counted(report.num_targets, 'token')}, {report.share_learnt:.1%} of all"),
        ("samples", f"{report.num_samples:,} with {counted(report.num_tokens, 'token')}"),
        (
            "lengths",
            f"{lengths.shortest:,} to {lengths.longest:,}, median {lengths.median:,.0f}, mean {lengths.mean:,.0f}, "
            f"95 % up to {lengths.p95:,.0f}",
        ),
        ("held out", held_out_in_words(report)),
        ("cut, left out", changes_in_words(report)),
        ("duplicates", f"{report.duplicates.num_extra:,}" if report.duplicates.num_extra else "none"),
        ("BOS", bos_in_words(report.bos)),
        ("rows", rows_in_words(report)),
        ("steps", steps_in_words(report)),
    ]
    return rows


def held_out_in_words(report: DataReport) -> str:
    """What is held out, and from where."""
    if not report.num_held_out:
        return "none"
    source = f", from {report.held_out_files[0].path}" if report.held_out_files else ", a share of the data"
    return f"{counted(report.num_held_out, 'sample')} with {counted(report.num_held_out_tokens, 'token')}{source}"


def changes_in_words(report: DataReport) -> str:
    """How many samples were cut or left out."""
    changed = report.changed
    parts = [
        f"{len(places):,} {words}"
        for places, words in (
            (changed.truncated, "cut"),
            (changed.overlong, "too long, left out"),
            (changed.empty, "with nothing to learn, left out"),
            (changed.cut_empty, "left out, as cutting left nothing to learn"),
            (changed.twins, "left out, as they are held out too"),
        )
        if places
    ]
    return "; ".join(parts) or "none"


def bos_in_words(bos: Bos) -> str:
    """The check of the token that begins a text."""
    if bos.token_id is None:
        return "the tokenizer has none"
    parts = [f"once in {bos.once:,}"] if bos.once else []
    parts += [f"at the front, and between turns by the template, in {bos.more:,}"] if bos.more else []
    parts += [f"missing in {bos.missing:,}"] if bos.missing else []
    return "; ".join(parts) + (" sample" if bos.once + bos.more + bos.missing == 1 else " samples")


def rows_in_words(report: DataReport) -> str:
    """Rows, and how full they are."""
    plan = report.plan
    how = "packed" if plan.packing else "one sample each"
    other = f" ({plan.unpacked_efficiency:.1%} with one sample a row)" if plan.packing else ""
    return f"{plan.num_rows:,} of {plan.length:,} tokens, {how}, {plan.efficiency:.1%} full{other}"


def steps_in_words(report: DataReport) -> str:
    """Steps of the optimiser, and what each takes."""
    plan = report.plan
    size = counted(plan.batch_size, "row") + (f" × {plan.accumulation} micro-batches" if plan.accumulation > 1 else "")
    targets = counted(round(plan.targets_per_step), "learnt token")
    return f"{plan.num_steps:,} ({plan.steps_per_epoch:,} an epoch), each of {size}, about {targets}"


def histogram(lengths: Lengths, row: int) -> Iterator[str]:
    """The histogram of the lengths, a line for each bin."""
    most = max(lengths.counts)
    width = len(f"{lengths.edges[-1]:,}")
    for low, high, count in zip(lengths.edges, lengths.edges[1:], lengths.counts, strict=False):
        eighths = round(count / most * _BAR * 8) if count else 0
        eighths = max(eighths, 1) if count else 0
        bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
        span = f"{low:>{width},} – {high - 1:>{width},}" if high - 1 > low else f"{low:>{width},}"
        yield f"  {span}  {bar:<{_BAR}}  {count:,}".rstrip()


def changes(report: DataReport) -> Iterator[tuple[str, list[str]]]:
    """Where samples were cut or left out, and duplicates, each under a title."""
    changed = report.changed
    for title, places in (
        (f"Cut at {report.plan.length:,} tokens", changed.truncated),
        ("Too long, left out", changed.overlong),
        ("Nothing to learn, left out", changed.empty),
        ("Cutting left nothing to learn, left out", changed.cut_empty),
        ("Held out too, left out of training", changed.twins),
    ):
        if places:
            yield title, by_file(places)
    if groups := report.duplicates.groups:
        more = [f"and {len(groups) - _MAX_LISTED:,} more groups"] if len(groups) > _MAX_LISTED else []
        yield "Equal samples", [*map(_equals, groups[:_MAX_LISTED]), *more]


def by_file(places: Sequence[tuple[str, int]]) -> list[str]:
    """Places with their tokens, one line of text for each file; of many, the first."""
    files: dict[str, list[str]] = {}
    for source, size in places:
        path, place = source.rsplit(", ", 1)
        kind, number = place.split(" ")
        files.setdefault(f"{path}: {kind}", []).append(f"{number} ({size:,} tokens)")
    lines = []
    for start, found in files.items():
        more = f", and {len(found) - _MAX_PLACES:,} more" if len(found) > _MAX_PLACES else ""
        lines.append(f"{start} {', '.join(found[:_MAX_PLACES])}{more}")
    return lines


def _equals(group: Sequence[str]) -> str:
    """The members of a group of equal samples; those of one file by their numbers."""
    more = f" and {len(group) - _MAX_EQUAL:,} more" if len(group) > _MAX_EQUAL else ""
    path = group[0].rsplit(", ", 1)[0]
    shown = [source.removeprefix(f"{path}, ") for source in group[1:_MAX_EQUAL]]
    return " = ".join([group[0], *shown]) + more


def _sample(shown: ShownSample, is_coloured: bool) -> Text:
    """A sample; what is learnt is green on a terminal, and stands between » and « elsewhere."""
    from rich.text import Text

    text = Text()
    legend = "green" if is_coloured else "between » and «"
    text.append(f"{shown.source}; {shown.num_targets:,} of {shown.num_tokens:,} tokens are learnt: ", style="dim")
    text.append(f"{legend}\n", style="bold green" if is_coloured else "dim")
    left = _MAX_CHARACTERS
    for piece, is_learnt in shown.pieces:
        part = piece[:left]
        left -= len(part)
        text.append(part if is_coloured or not is_learnt else f"»{part}«", style="bold green" if is_learnt else "")
        if not left:
            break
    if shown.num_hidden or not left:
        text.append("\n… (the rest is not shown)", style="dim")
    return text


__all__ = ["print_report", "report_text"]
