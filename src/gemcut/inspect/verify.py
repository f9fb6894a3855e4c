"""Are two checkpoints the same model? Tensors, configuration, tokenizer and logits compared, with a verdict."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from gemcut.checkpoint import Checkpoint, open_checkpoint
from gemcut.checkpoint.adapter import merged, read_adapter
from gemcut.checkpoint.load import KERAS_ENGINES
from gemcut.checkpoint.tensor_stream import Progress
from gemcut.config import DecoderConfig
from gemcut.errors import DataError, GemcutError, NotFoundError, TokenizerError, UsageError
from gemcut.files import read_bytes
from gemcut.generate.load import engine_for, tokenizer_of
from gemcut.hub import adapter_of, resolve
from gemcut.inspect.logits import LogitsTask, perplexity, run
from gemcut.inspect.precision import (
    coarsest_type,
    engine_rounding,
    explained_error,
    kl_limit,
    log_probability_limit,
    tensor_verdict,
)
from gemcut.inspect.tensor_comparison import TensorAccount, compare_tensors
from gemcut.text import Tokenizer

TEXTS = Path(__file__).parent / "data" / "verify-texts.txt"
DEFAULT_TOKENS = 640  # beyond the smallest window of a published model, 512
_PIECE_TOKENS = 128
_WINDOW_TOKENS = 4096
_MAX_TEXT_BYTES = 64 << 20
# What no arithmetic depends on; a head of its own may hold the embedding's values.
_HARMLESS = frozenset(
    "max_position_embeddings bos_token_id pad_token_id eos_token_ids model_type tie_word_embeddings".split()
)
_FLOAT32_STEP = 2.0**-23  # GGUF keeps a configuration's numbers as float32


def verify(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    engine: str = "auto",
    engine_b: str | None = None,
    dtype: str = "auto",
    dtype_b: str | None = None,
    threads: int | None = None,
    adapter: str | os.PathLike[str] | None = None,
    adapter_b: str | os.PathLike[str] | None = None,
    text: str | os.PathLike[str] | None = None,
    num_tokens: int | None = None,
    tensors_only: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare two models of any formats, quantisations and engines, and say whether they are the same.

    Args:
        a, b: References of models on this machine.
        engine, dtype: What computes the logits, as in `gemcut.load`.
        engine_b, dtype_b: The same for B; None for what A has.
        threads: CPU threads; None for the engine's default.
        adapter: Folder of a LoRA adapter that A has, None for the reference's own; its tensors are compared merged, its
            logits computed unmerged.
        adapter_b: The same for B.
        text: UTF-8 file whose tokens the models predict; None for Gemcut's own texts in several languages.
        num_tokens: Tokens of it to use, at least 2; None for DEFAULT_TOKENS.
        tensors_only: Compute no logits.
        progress: Called with what is at work, how much of it is done and how much there is.

    Returns:
        A JSON-able dict: a and b (reference, path, format, adapter; engine and dtype with logits), verdict ("same",
        "same within TYPE's precision" or "different"), is_same, reasons (of the verdict), config (fields that differ),
        tokenizer, tensors, and logits (None where none were computed).

    Raises:
        UsageError: an option makes no sense.
        NotFoundError: a model or the text is not there.
        CheckpointError, ConfigError, TokenizerError, DataError: a file is damaged.
        BackendError: an engine is missing or fails.
        GemcutError: the disk has no room for the logits of A.
    """
    if num_tokens is not None and num_tokens < 2:
        raise UsageError(f"num_tokens is {num_tokens}, expected at least 2: each is predicted from those before it.")
    sides = (
        _Side(a, resolve(a), engine, dtype, adapter or adapter_of(a)),
        _Side(b, resolve(b), engine_b or engine, dtype_b or dtype, adapter_b or adapter_of(b)),
    )
    engines = [side.engine_in_use for side in sides]
    passage = _read_text(text)
    with open_checkpoint(sides[0].path) as opened_a, open_checkpoint(sides[1].path) as opened_b:
        first, second = sides[0].adapted(opened_a), sides[1].adapted(opened_b)
        account = compare_tensors(first.tensors, second.tensors, progress)
        tokenizers = [_tokenizer(first), _tokenizer(second)]
        report: dict[str, Any] = {
            "a": sides[0].facts(first),
            "b": sides[1].facts(second),
            "config": config_differences(first.config, second.config),
            "tokenizer": _tokenizer_facts(tokenizers, passage),
            "tensors": _tensor_facts(account),
            "logits": None,
        }
        if not tensors_only and first.config.vocab_size == second.config.vocab_size:
            token_ids = _token_ids(tokenizers, passage, num_tokens or DEFAULT_TOKENS)
            context = min(_WINDOW_TOKENS, *(each.config.max_position_embeddings for each in (first, second)))
            tasks = [
                side.task(name, threads, _runs(token_ids, min(_PIECE_TOKENS, context)), _runs(token_ids, context))
                for side, name in zip(sides, engines, strict=True)
            ]
            answers = _run(tasks, first.config.vocab_size, progress)
            report["logits"] = _logits_facts(tasks, answers, account, first.config.num_hidden_layers)
            for side, answer in zip("ab", answers, strict=True):
                report[side] |= {"engine": answer["engine"], "dtype": answer["dtype"]}
    return report | _verdict(report, account)


@dataclasses.dataclass(frozen=True)
class _Side:
    """One of the two models, as it was asked for."""

    reference: str | os.PathLike[str]
    path: Path
    engine: str
    dtype: str
    adapter: str | os.PathLike[str] | None

    @property
    def folder(self) -> str | None:
        """The adapter's folder."""
        return None if self.adapter is None else os.fspath(self.adapter)

    @property
    def engine_in_use(self) -> str:
        """What "auto" means; which Keras backend this process has does not matter, as those run in a child process."""
        return self.engine if self.engine in KERAS_ENGINES else engine_for(self.path, self.engine)

    def adapted(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint as the adapter changes it."""
        return merged(checkpoint, read_adapter(self.folder, checkpoint)) if self.folder else checkpoint

    def facts(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """What the report says of it."""
        return {
            "reference": os.fspath(self.reference),
            "path": str(self.path),
            "format": checkpoint.format,
            "adapter": self.folder,
        }

    def task(self, engine: str, threads: int | None, pieces: list[list[int]], windows: list[list[int]]) -> LogitsTask:
        """What its engine is to compute."""
        return LogitsTask(
            str(self.path), engine, self.dtype, threads, pieces, windows, file="", compares=False, adapter=self.folder
        )


def config_differences(a: DecoderConfig, b: DecoderConfig) -> list[dict[str, Any]]:
    """Fields that differ by more than float32 rounds: {"field", "a", "b", "matters"}; harmless ones do not matter."""
    rows = []
    for field in dataclasses.fields(DecoderConfig):
        values = [getattr(config, field.name) for config in (a, b)]
        if not _alike(*values):
            shown_a, shown_b = map(_plain, values)
            rows.append({"field": field.name, "a": shown_a, "b": shown_b, "matters": field.name not in _HARMLESS})
    return rows


def _plain(value: Any) -> Any:
    """A field's value as JSON has it."""
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)  # type: ignore[arg-type]
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _alike(a: Any, b: Any) -> bool:
    if dataclasses.is_dataclass(a):
        a, b = dataclasses.astuple(a), dataclasses.astuple(b)  # type: ignore[arg-type]
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_alike, a, b))
    if isinstance(a, float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=_FLOAT32_STEP)
    return bool(a == b)


def _read_text(path: str | os.PathLike[str] | None) -> str:
    file = TEXTS if path is None else Path(path)
    try:
        text = read_bytes(file, _MAX_TEXT_BYTES, DataError).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise DataError(f"{file}: is not UTF-8 text ({problem.reason} at byte {problem.start}).") from None
    if not text.strip():
        raise DataError(f"{file}: is empty, expected some text.")
    return text


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer | None:
    """The checkpoint's tokenizer; None where it has none."""
    metadata = checkpoint.gguf_metadata
    if metadata is not None and "tokenizer.ggml.tokens" not in metadata:
        return None
    try:
        return tokenizer_of(checkpoint)
    except NotFoundError:
        return None


def _tokenizer_facts(tokenizers: list[Tokenizer | None], text: str) -> dict[str, Any]:
    """Whether both give the same ids on the text; `same` is None where a side has no tokenizer."""
    a, b = tokenizers
    facts: dict[str, Any] = {"in_a": a is not None, "in_b": b is not None, "same": None, "first_difference": None}
    if a is None or b is None:
        return facts
    for line in text.splitlines():
        ids = [tokenizer.encode(line) for tokenizer in (a, b)]
        if ids[0] != ids[1]:
            facts["first_difference"] = {"text": line, "a": ids[0], "b": ids[1]}
            break
    return facts | {"same": facts["first_difference"] is None}


def _token_ids(tokenizers: list[Tokenizer | None], text: str, num_tokens: int) -> list[int]:
    tokenizer = next(filter(None, tokenizers), None)
    if tokenizer is None:
        raise TokenizerError(
            "neither model has a tokenizer, expected one to turn the text into tokens. "
            "Put tokenizer.model or tokenizer.json beside the weights of one, or pass --tensors-only."
        )
    token_ids = tokenizer.encode(text)[:num_tokens]
    if len(token_ids) < 2:
        raise DataError(f"the text has {len(token_ids)} tokens, expected at least 2. Give a longer one.")
    return token_ids


def _runs(token_ids: list[int], max_tokens: int) -> list[list[int]]:
    """The text in runs of at most `max_tokens`, each after the text's first token, which is BOS for most tokenizers."""
    size = max_tokens - 1
    return [[token_ids[0], *token_ids[start : start + size]] for start in range(1, len(token_ids), size)]


def _run(tasks: list[LogitsTask], vocab_size: int, progress: Progress | None) -> list[dict[str, Any]]:
    """The two tasks' answers, A's logits kept in a temporary file between them."""
    positions = sum(map(len, tasks[0].pieces))
    with tempfile.TemporaryDirectory(prefix="gemcut-verify-") as folder:
        needed, free = positions * vocab_size * 4, shutil.disk_usage(folder).free
        if needed > free:
            raise GemcutError(
                f"{folder}: {free:,} bytes are free, but the logits of {positions:,} positions take {needed:,}. "
                "Free space, set TMPDIR to a larger disk, or compare fewer tokens (--tokens)."
            )
        answers = []
        for side, task in zip("AB", tasks, strict=True):

            def show(done: int, title: str = f"logits of {side} on {task.engine}") -> None:
                if progress:
                    progress(title, done, positions)

            show(0)
            placed = dataclasses.replace(task, file=str(Path(folder) / "logits-of-a"), compares=side == "B")
            answers.append(run(placed, show))
        return answers


def _tensor_facts(account: TensorAccount) -> dict[str, Any]:
    return {
        "only_in_a": account.only_in_a,
        "only_in_b": account.only_in_b,
        "shapes": [{"name": name, "a": list(a), "b": list(b)} for name, a, b in account.shapes],
        "compared": [
            dataclasses.asdict(errors) | {"shape": list(errors.shape), "verdict": tensor_verdict(errors)}
            for errors in account.compared
        ],
        "notes": account.notes,
    }


def _logits_facts(
    tasks: list[LogitsTask], answers: list[dict[str, Any]], account: TensorAccount, num_layers: int
) -> dict[str, Any]:
    """The distance, both perplexities, and the limits that rounding sets; of logits that are no numbers only that."""
    distance = answers[1]["distance"]
    if not distance["is_finite"]:
        return {"positions": distance["positions"], "is_finite": False}
    rounding = [
        engine_rounding(answer["engine"], answer["dtype"], task.dtype)
        for task, answer in zip(tasks, answers, strict=True)
    ]
    weights_error = explained_error(account.compared)
    limit = kl_limit(weights_error, rounding, num_layers)
    logprobs = [answer["logprobs"] for answer in answers]
    predicted = sum(map(len, logprobs[0]))
    perplexities = [perplexity(values) for values in logprobs]
    longest = max(abs(x - y) for one, other in zip(*logprobs, strict=True) for x, y in zip(one, other, strict=True))
    return {
        **distance,
        "mean_kl_limit": limit,
        "weights_error": weights_error,
        "predicted_tokens": predicted,
        "perplexity_a": perplexities[0],
        "perplexity_b": perplexities[1],
        "perplexity_change": perplexities[1] / perplexities[0] - 1,
        "perplexity_change_limit": math.expm1(log_probability_limit(limit, predicted)),
        "max_log_probability_error": longest,
    }


def _verdict(report: dict[str, Any], account: TensorAccount) -> dict[str, Any]:
    """verdict, is_same and reasons."""
    tensors, logits = report["tensors"], report["logits"]
    reasons = [f"config: {row['field']} differs" for row in report["config"] if row["matters"]]
    shapes = [name for name, *_ in account.shapes]
    beyond = [row["name"] for row in tensors["compared"] if row["verdict"] == "different"]
    for names, what in (
        (account.only_in_a, "only in A"),
        (account.only_in_b, "only in B"),
        (shapes, "of other shapes"),
        (beyond, "with larger errors than types explain"),
    ):
        if names:
            reasons.append(f"{len(names)} tensor{'s' * (len(names) > 1)} {what}, {names[0]} first")
    if report["tokenizer"]["same"] is False:
        reasons.append("the tokenizers give different ids")
    reasons += _logits_reasons(logits) if logits else []
    within = [errors for errors in account.compared if tensor_verdict(errors) == "within"]
    verdict = "different" if reasons else f"same within {coarsest_type(within)}'s precision" if within else "same"
    return {"verdict": verdict, "is_same": not reasons, "reasons": reasons}


def _logits_reasons(logits: dict[str, Any]) -> list[str]:
    """Why the logits are not those of one model."""
    if not logits["is_finite"]:
        return ["a logit is NaN or infinite"]
    reasons = []
    if logits["mean_kl"] > logits["mean_kl_limit"]:
        reasons.append(f"mean KL is {logits['mean_kl']:.3g}, rounding explains {logits['mean_kl_limit']:.3g}")
    change = abs(math.log1p(logits["perplexity_change"]))
    if change > math.log1p(logits["perplexity_change_limit"]):
        reasons.append(
            f"perplexity differs by {logits['perplexity_change']:+.2%}, "
            f"rounding explains {logits['perplexity_change_limit']:.2%}"
        )
    return reasons
