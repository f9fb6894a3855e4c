"""What commands print: answers on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gemcut.generate import TextModel
    from gemcut.interfaces import Completion, Piece

# Everything below space but newline and tab, DEL, and the C1 block.
_SHOWN_ON_TERMINAL = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def print_error(message: str) -> None:
    """Print `message` on standard error, in red on a terminal."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True, highlight=False).print(Text(f"gemcut: {message}", style="red"))


def print_notice(message: str, quiet: bool = False) -> None:
    """Print a line that is not the answer on standard error, unless `quiet`."""
    if not quiet:
        print(message, file=sys.stderr, flush=True)  # noqa: T201


def print_json(value: Any) -> None:
    """Print `value` as one line of JSON on standard output."""
    print(json.dumps(value, ensure_ascii=False), flush=True)  # noqa: T201


def write_answer(text: str) -> None:
    """Write a part of the answer to standard output at once.

    Characters that the terminal's encoding lacks become question marks. Control characters would be obeyed by a
    terminal, so there they become U+FFFD; files and pipes get them as they are.
    """
    encoding = sys.stdout.encoding or "utf-8"
    if sys.stdout.isatty():
        text = text.translate(_SHOWN_ON_TERMINAL)
    sys.stdout.write(text.encode(encoding, errors="replace").decode(encoding))
    sys.stdout.flush()


@contextlib.contextmanager
def busy(message: str, quiet: bool) -> Iterator[None]:
    """Show that something takes time, while it does: a spinner on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(message):
        yield


def load_model(
    reference: str,
    *,
    engine: str,
    dtype: str,
    threads: int | None,
    context: int | None,
    adapter: Path | None,
    quiet: bool,
) -> TextModel:
    """The loaded model; says on standard error what `auto` chose."""
    import gemcut

    with busy(f"Loading {reference} ...", quiet):
        model = gemcut.load(reference, engine=engine, dtype=dtype, threads=threads, context=context, adapter=adapter)
    choices = [
        f"engine {model.engine}" + (" (auto)" if engine == "auto" else ""),
        f"dtype {model.dtype}" + (" (auto)" if dtype == "auto" else ""),
        f"device {model.device}",
        f"loaded in {model.load_seconds:.1f} s",
        *([f"adapter {adapter}"] if adapter else []),
    ]
    print_notice(f"{reference}: {', '.join(choices)}", quiet)
    return model


@dataclasses.dataclass
class Answer:
    """What came out of a stream, and when.

    Attributes:
        text: All pieces so far.
        token_ids: All ids so far.
        completion: The finished completion; None when Ctrl-C came first.
    """

    text: str = ""
    token_ids: list[int] = dataclasses.field(default_factory=list)
    completion: Completion | None = None

    @property
    def is_interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        return self.completion is None or self.completion.finish_reason == "interrupted"

    def as_json(self, engine: str) -> dict[str, Any]:
        """The keys of `gemcut run --json`."""
        if self.completion is None:
            usage = {"prompt_tokens": None, "completion_tokens": len(self.token_ids)}
            ended = {"text": self.text, "token_ids": self.token_ids, "finish_reason": "interrupted", "usage": usage}
        else:
            names = ("text", "token_ids", "finish_reason", "usage")
            ended = {name: getattr(self.completion, name) for name in names}
        return {**ended, "engine": engine}

    def speed(self) -> str:
        """One line: tokens of prompt and answer, their speed, why the answer ended, and time spent compiling."""
        if self.completion is None:
            return f"answer {len(self.token_ids):,} tokens, interrupted"
        from gemcut.interfaces import Timings

        usage, timings = self.completion.usage, self.completion.timings or Timings()
        prompt, answer = (f"{usage[kind]:,} tokens" for kind in ("prompt_tokens", "completion_tokens"))
        if timings.prefill_seconds:
            prompt += f", {timings.prefill_tokens / timings.prefill_seconds:.1f} tok/s"
        if timings.decode_seconds:
            answer += f", {timings.decode_tokens / timings.decode_seconds:.1f} tok/s"
        parts = [f"prompt {prompt}", f"answer {answer} ({self.completion.finish_reason})"]
        if timings.compile_seconds:
            parts.append(f"compiling {timings.compile_seconds:.1f} s")
        return "; ".join(parts)


def follow(pieces: Iterator[Piece], *, echo: bool, quiet: bool) -> Answer:
    """Read a stream to its end, or to Ctrl-C, writing each piece to standard output when `echo`.

    Until there is something to show, a terminal shows that the model is at work, unless `quiet`.
    """
    answer = Answer()
    with contextlib.ExitStack() as waiting:
        waiting.enter_context(busy("Generating ...", quiet))
        try:
            for piece in pieces:
                answer.text += piece.text
                answer.token_ids += piece.token_ids
                answer.completion = piece.completion
                if echo:
                    waiting.close()
                    write_answer(piece.text)
        except KeyboardInterrupt:
            answer.completion = None
    return answer


def size_in_words(num_bytes: int) -> str:
    """A size in binary units."""
    amount = float(num_bytes)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.2f} GiB"


def in_columns(rows: list[list[str]]) -> str:
    """Lines of rows whose cells stand in columns, each as wide as its longest cell."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def print_fields(fields: dict[str, Any], indent: int = 0) -> None:
    """Print names and values in two aligned columns on standard output; a nested mapping is indented."""
    width = max((len(name) for name, value in fields.items() if not isinstance(value, dict)), default=0)
    for name, value in fields.items():
        if isinstance(value, dict):
            print(" " * indent + name)  # noqa: T201
            print_fields(value, indent + 2)
        else:
            print(f"{' ' * indent}{name:<{width}}  {value}")  # noqa: T201
