"""What the files of data sets hold, from the files of the packages that carry the rows in another form.

Whatever is made here counts only when it has the SHA-256 that is known.
"""

from __future__ import annotations

import ast
import gzip
import io
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gemcut.errors import DataError, MissingExtraError
from gemcut.evaluate.data import Row

# The samples of train splits were drawn in this order from one stream of random numbers.
SAMPLE_SEED = 20240221
SAMPLE_ROWS = 1000
SAMPLED = {"piqa": 16_113, "boolq": 9_427, "winogrande": 40_398, "commonsense_qa": 9_741, "openbookqa": 4_957}


def contents(recipe: Mapping[str, Any], files: Sequence[bytes]) -> bytes:
    """What a file of a data set must hold, unpacked.

    Args:
        recipe: From data_sets.json. read: How the files are read, a key of READERS, or "as_it_is". row: What is made
            of a row: a key of ROWS, or names of fields to keep. sample: Whose sample of the rows is taken. number:
            Under which name rows are numbered, at the front, or at the end as "idx".
        files: The package's files.

    Raises:
        MissingExtraError: what reads them is not installed.
        DataError: they are not what the recipe is for.
    """
    if recipe["read"] == "as_it_is":
        return _unpacked(files[0])
    try:
        rows = list(enumerate(_read(recipe, files)))
        if "sample" in recipe:
            rows = [rows[place] for place in sampled(recipe["sample"])]
        return "".join(
            json.dumps(_made(recipe, number, row), ensure_ascii=False) + "\n" for number, row in rows
        ).encode("utf-8")
    except (KeyError, ValueError, IndexError, TypeError, AttributeError, OSError, SyntaxError) as error:
        raise DataError(
            f"the package's files are not what is expected ({type(error).__name__}: {error}). They are damaged, or of "
            "another version."
        ) from None


def sampled(name: str) -> list[int]:
    """Which rows of a train split are in its sample, in their order."""
    stream = random.Random(SAMPLE_SEED)
    drawn = {each: sorted(stream.sample(range(num_rows), SAMPLE_ROWS)) for each, num_rows in SAMPLED.items()}
    return drawn[name]


def _read(recipe: Mapping[str, Any], files: Sequence[bytes]) -> Iterator[Row]:
    for data in files:
        yield from READERS[recipe["read"]](data)


def _made(recipe: Mapping[str, Any], number: int, row: Row) -> Row:
    how, name = recipe.get("row"), recipe.get("number")
    made = ROWS[how](row) if isinstance(how, str) else {key: row[key] for key in how} if how else row
    if name is None:
        return made
    return {**made, name: number} if name == "idx" else {name: number, **made}


def _unpacked(data: bytes) -> bytes:
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def _json_lines(data: bytes) -> Iterator[Row]:
    return (json.loads(line) for line in _unpacked(data).decode("utf-8").split("\n") if line.strip())


def _arrow(data: bytes) -> Iterator[Row]:
    try:
        import pyarrow.ipc
    except ImportError:
        raise _missing("pyarrow") from None
    return iter(pyarrow.ipc.open_stream(data).read_all().to_pylist())


def _parquet(data: bytes) -> Iterator[Row]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise _missing("pyarrow") from None
    return iter(pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist())


def _missing(name: str) -> MissingExtraError:
    return MissingExtraError(f'Reading data sets needs {name}. Install the extra: pip install "gemcut[eval]".')


def _requests(data: bytes) -> Iterator[Row]:
    """The documents that an evaluation's requests were made of, each once."""
    seen = set()
    for request in _json_lines(data):
        key = json.dumps(request["doc"], sort_keys=True)
        if key not in seen:
            seen.add(key)
            yield request["doc"]


def _shots(data: bytes) -> Iterator[Row]:
    """The solved examples before an evaluation's first question: question, answer, and the options where there are."""
    *blocks, _ = next(_json_lines(data))["request"]["context"].split("\n\n")
    for block in blocks:
        question, answer = block.rsplit("\nAnswer: ", 1)
        question, *options = re.split(r"\n [A-D]\. ", question)
        yield {"question": question.removeprefix("Question: "), "options": options, "answer": answer}


def _yaml(data: bytes) -> Iterator[Row]:
    """The fixed examples of a task file of lm-evaluation-harness."""
    try:
        import yaml
    except ImportError:
        raise _missing("PyYAML") from None
    return iter(yaml.safe_load(data)["fewshot_config"]["samples"])


def _python(data: bytes) -> Iterator[Row]:
    """The fixed examples in a Python file of lm-evaluation-harness, which is read and not run."""
    for node in ast.walk(ast.parse(data)):
        if isinstance(node, ast.FunctionDef) and node.name == "list_fewshot_samples":
            value = next(each.value for each in node.body if isinstance(each, ast.Return))
            return iter(ast.literal_eval(value)) if value else iter(())
    return iter(())


def _triviaqa(row: Row) -> Row:
    keys, names = ("question_id", "question", "question_source"), ("value", "normalized_value")
    answer = row["answer"]
    kept = {name: answer[name] for name in (*names, "aliases", "normalized_aliases")}
    return {key: row[key] for key in keys} | kept


def _asked(row: Row) -> Row:
    question = row["query"].removeprefix("Question: ").removesuffix("\nAnswer:")
    return {"id": row["id"], "question": question, "choices": row["choices"], "gold": row["gold"]}


def _boolq(row: Row) -> Row:
    passage, question = row["query"].rsplit("\nQuestion: ", 1)
    is_yes = row["choices"][row["gold"]] == "yes"
    return {"passage": passage, "question": question.removesuffix("?\nAnswer:"), "answer": is_yes}


def _hellaswag_shot(row: Row) -> Row:
    question = row["question"].removesuffix("\nChoose the best continuation:").strip()
    return {"query": question, "choices": row["options"], "gold": "ABCD".index(row["answer"])}


def _social_iqa_shot(row: Row) -> Row:
    first, second, third = row["options"]
    return {
        "context_question": row["question"], "answerA": first, "answerB": second, "answerC": third,
        "label": str("ABC".index(row["answer"]) + 1),
    }  # fmt: skip


def _nq_open_shot(row: Row) -> Row:
    return {"question": row["question"], "answer": [row["answer"]]}


READERS: Mapping[str, Callable[[bytes], Iterator[Row]]] = {
    "json_lines": _json_lines, "arrow": _arrow, "parquet": _parquet, "requests": _requests, "shots": _shots,
    "yaml": _yaml, "python": _python,
}  # fmt: skip
ROWS: Mapping[str, Callable[[Row], Row]] = {
    "triviaqa": _triviaqa, "asked": _asked, "boolq": _boolq, "hellaswag_shot": _hellaswag_shot,
    "social_iqa_shot": _social_iqa_shot, "nq_open_shot": _nq_open_shot,
}  # fmt: skip

__all__ = ["READERS", "ROWS", "contents", "sampled"]
