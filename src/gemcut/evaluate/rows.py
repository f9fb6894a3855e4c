"""What some data sets' rows need before a template can take them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from gemcut.evaluate.data import Row
from gemcut.evaluate.safety_rows import bbq, truthfulqa, winobias, winogender


def hellaswag(row: Row) -> Row:
    """Context and endings without the brackets that WikiHow articles left in them."""
    if "query" in row:  # the examples of the train split come so
        return row
    context = row["ctx_a"] + " " + row["ctx_b"].capitalize()
    return {
        "query": _without_brackets(row["activity_label"] + ": " + context),
        "choices": [_without_brackets(ending) for ending in row["endings"]],
        "gold": int(row["label"]),
    }


def _without_brackets(text: str) -> str:
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def winogrande(row: Row) -> Row:
    """The sentence up to the blank with either option in it, and what follows."""
    before, after = row["sentence"].split("_", 1)
    return {
        "beginnings": [before + row["option1"], before + row["option2"]],
        "rest": after.strip(),
        "gold": int(row["answer"]) - 1,
    }


def lettered(row: Row) -> Row:
    """Choices as a list of texts, and the right one by number: of the files that keep letters beside the texts."""
    choices = row["choices"]
    if isinstance(choices, list):
        return row
    return {**row, "choices": choices["text"], "gold": choices["label"].index(row["answerKey"].strip())}


def social_iqa(row: Row) -> Row:
    """Context and question as one text."""
    if "context_question" in row:
        return row
    return {**row, "context_question": f"{row['context']} {row['question']}"}


def num_words(text: str) -> int:
    """Words as lm-evaluation-harness counts them: space at an end makes one of nothing."""
    return len(re.split(r"\s+", text))


def bbh_prompt(row: Row) -> list[Row]:
    """The solved examples in a chain-of-thought prompt of BIG-Bench Hard."""
    _, *questions = row["prompt"].split("\n\nQ: ")
    parts = [re.split(r"\nA: Let's think step by step\.\s", question, maxsplit=1) for question in questions]
    return [{"task": row["task"], "input": question, "target": answer} for question, answer in parts]


PROCESS: Mapping[str, Callable[[Row], Row]] = {
    function.__name__: function
    for function in (hellaswag, winogrande, lettered, social_iqa, truthfulqa, bbq, winogender, winobias)
}
EXAMPLES: Mapping[str, Callable[[Row], list[Row]]] = {function.__name__: function for function in (bbh_prompt,)}
