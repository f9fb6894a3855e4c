"""Rows of the data sets beside the checkout, as the hub has them that lm-eval's own tasks load them from.

The task files here name a function of this module as `process_docs`; what lm-eval then asks is left to its own prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets

Row = dict[str, Any]
LETTERS = "ABCDEFGH"


def choices_by_letter(row: Row) -> Row:
    """ARC, OpenBookQA, CommonsenseQA: texts with letters, and the right letter."""
    if isinstance(row["choices"], dict):
        return row
    letters = list(LETTERS[: len(row["choices"])])
    return {
        "question": row["question"],
        "question_stem": row["question"],
        "choices": {"text": row["choices"], "label": letters},
        "answerKey": letters[row["gold"]],
    }


def boolq(row: Row) -> Row:
    """BoolQ: the answer as a number."""
    return {**row, "label": int(row["answer"])}


def social_iqa(row: Row) -> Row:
    """Social IQa: the examples of the train split have context and question in one text."""
    if "context" in row:
        return row
    context, question = row["context_question"].rsplit(" ", 1)
    return {**row, "context": context, "question": question}


def triviaqa(row: Row) -> Row:
    """TriviaQA: the accepted answers one level down."""
    return {"question": row["question"], "answer": {"aliases": row["aliases"]}}


def agieval(row: Row) -> Row:
    """AGIEval: question, options and the sentence to complete as one text."""
    passage = row.get("passage") or ""
    if not row.get("options"):
        return {"query": f"{passage}Q: {row['question']}\nA: The answer is", "answer": row["answer"]}
    letters = LETTERS[: len(row["options"])]
    query = (
        f"{passage}Q: {row['question']} Answer Choices: {' '.join(row['options'])}\n"
        f"A: Among A through {letters[-1]}, the answer is"
    )
    return {"query": query, "choices": row["options"], "gold": [letters.index(row["label"])]}


def truthfulqa(row: Row) -> Row:
    """TruthfulQA: the answers of one cell as lists with a 1 for each right one."""
    best = row["Best Answer"].strip()
    right, wrong = (
        [answer.strip() for answer in row[f"{kind} Answers"].split(";") if answer.strip()]
        for kind in ("Correct", "Incorrect")
    )
    right = list(dict.fromkeys([best, *right]))
    wrong = [answer for answer in dict.fromkeys(wrong) if answer not in right]
    return {
        "question": row["Question"],
        "mc1_targets": {"choices": [best, *wrong], "labels": [1] + [0] * len(wrong)},
        "mc2_targets": {"choices": right + wrong, "labels": [1] * len(right) + [0] * len(wrong)},
    }


PRONOUNS = {"male": ("he", "him", "his"), "female": ("she", "her", "hers"), "neutral": ("they", "them", "their")}


def winogender(row: Row) -> Row:
    """Winogender: what a sentence's name says, and its pronoun."""
    occupation, participant, answer, gender, _ = row["sentid"].split(".")
    words = row["sentence"].lower().replace(".", " ").replace(",", " ").split()
    return {
        "sentence": row["sentence"],
        "pronoun": next(word for word in words if word in PRONOUNS[gender]),
        "occupation": occupation,
        "participant": participant,
        "gender": gender,
        "label": int(answer),
    }


CONVERSIONS: dict[str, Callable[[Row], Row]] = {
    function.__name__: function
    for function in (choices_by_letter, boolq, social_iqa, triviaqa, agieval, truthfulqa, winogender)
}
# How the examples of a task are converted.
EXAMPLES = {
    "arc_challenge": choices_by_letter, "arc_easy": choices_by_letter, "commonsense_qa": choices_by_letter,
    "openbookqa": choices_by_letter, "boolq": boolq, "social_iqa": social_iqa, "triviaqa": triviaqa,
}  # fmt: skip
# Fields that part a file into tasks of lm-eval; `mmlu__anatomy` are the rows of one.
PARTS = {"mmlu": "subject", "bbh": "task", "math": "type"}


def all_rows(name: str) -> Callable[[datasets.Dataset], datasets.Dataset]:
    """A `process_docs` that converts every row by the function of that name."""

    def process(dataset: datasets.Dataset) -> datasets.Dataset:
        return datasets.Dataset.from_list([CONVERSIONS[name](row) for row in dataset])

    return process


def some_rows(name: str) -> Callable[[datasets.Dataset], datasets.Dataset]:
    """A `process_docs` that keeps the rows of one part, such as `mmlu__anatomy`."""
    data_set, part = name.split("__")
    field = PARTS[data_set]

    def process(dataset: datasets.Dataset) -> datasets.Dataset:
        kept = [
            number for number, value in enumerate(dataset[field]) if value.replace(" ", "_").replace("&", "and") == part
        ]
        chosen = dataset.select(kept)
        if data_set != "math":
            return chosen
        from lm_eval.tasks.minerva_math import utils

        return utils.process_docs(chosen)

    return process


def mbpp_test(dataset: datasets.Dataset) -> datasets.Dataset:
    """The rows of MBPP that are scored."""
    return dataset.filter(lambda row: 11 <= row["task_id"] <= 510)


def examples(task: str, rows: list[Row]) -> list[Row]:
    """Rows that are to be solved examples of a task."""
    if task != "hellaswag":
        convert = EXAMPLES.get(task)
        return [convert(row) for row in rows] if convert else rows
    from lm_eval.tasks.hellaswag import utils

    # Those of the train split come as the others are after lm-eval's own function.
    others = [row for row in rows if "query" not in row]
    processed = iter(utils.process_docs(datasets.Dataset.from_list(others)) if others else ())
    return [{**row, "label": str(row["gold"])} if "query" in row else dict(next(processed)) for row in rows]


def __getattr__(name: str) -> Callable[[datasets.Dataset], datasets.Dataset]:
    """`all_NAME` and `DATA_SET__PART`."""
    if name.startswith("all_"):
        return all_rows(name.removeprefix("all_"))
    if name.split("__")[0] in PARTS and name.count("__") == 1:
        return some_rows(name)
    raise AttributeError(name)
