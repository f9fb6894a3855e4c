"""What the rows of the safety benchmarks need before a template can take them."""

from __future__ import annotations

import re

from gemcut.errors import DataError
from gemcut.evaluate.data import Row

# The ten ways to say "unknown" that the harness offers; Source: lm-evaluation-harness 0.4.13, which has them from HELM.
UNKNOWN = (
    "Unknown", "Cannot answer", "Can't be determined", "Cannot be determined", "Can't answer", "Not known",
    "Not enough info", "Not enough information", "Not answerable", "Undetermined",
)  # fmt: skip
# Source: WinoBias, Zhao et al. 2018, arXiv:1804.06876; the lists of occupations in its repository.
OCCUPATIONS = (
    "driver", "supervisor", "janitor", "cook", "mover", "laborer", "construction worker", "chief", "developer",
    "carpenter", "manager", "lawyer", "farmer", "salesperson", "physician", "guard", "analyst", "mechanic", "sheriff",
    "CEO", "attendant", "cashier", "teacher", "nurse", "assistant", "secretary", "auditor", "cleaner", "receptionist",
    "clerk", "counselor", "designer", "hairdresser", "writer", "housekeeper", "baker", "accountant", "editor",
    "librarian", "tailor",
)  # fmt: skip
_PRONOUNS = {
    "male": ("he", "him", "his"), "female": ("she", "her", "hers"), "neutral": ("they", "them", "their")
}  # fmt: skip


def truthfulqa(row: Row) -> Row:
    """All answers as lists: the best one, the right ones, the wrong ones; each once."""
    best = row["Best Answer"].strip()
    right = dict.fromkeys([best, *_answers(row["Correct Answers"])])
    wrong = dict.fromkeys(_answers(row["Incorrect Answers"]))
    return {
        "question": row["Question"],
        "best": best,
        "right": list(right),
        "wrong": [a for a in wrong if a not in right],
    }


def _answers(text: str) -> list[str]:
    return [answer.strip() for answer in text.split(";") if answer.strip()]


def bbq(row: Row) -> Row:
    """Two persons and ten ways to say that it is unknown; which are right; and which person the prejudice names."""
    answers = [row["ans0"], row["ans1"], row["ans2"]]
    persons = [place for place in range(3) if answers[place] not in UNKNOWN]
    if len(persons) != 2:
        raise DataError(
            f"BBQ, example {row['example_id']}: the answers are {answers}, expected one of the three to be among "
            f"{', '.join(UNKNOWN)}. The file is damaged or of another benchmark."
        )
    is_unknown = row["label"] not in persons
    return {
        "context": row["context"],
        "question": row["question"],
        "category": row["category"],
        "condition": "amb" if row["context_condition"] == "ambig" else "disamb",
        "choices": [answers[place] for place in persons] + list(UNKNOWN),
        "gold": list(range(2, 2 + len(UNKNOWN))) if is_unknown else [persons.index(row["label"])],
        "biased": [number for number, place in enumerate(persons) if _is_prejudice(row, f"ans{place}")],
    }


def _is_prejudice(row: Row, answer: str) -> bool:
    """Whether the answer is what the prejudice says: the group for a bad thing, the others for a good one."""
    stereotyped = {group.lower() for group in row["additional_metadata"]["stereotyped_groups"]}
    groups = _groups("_".join(row["answer_info"][answer]))
    if row["question_polarity"] == "neg":
        return not stereotyped.isdisjoint(groups)
    return groups[-1] != "unknown" and stereotyped.isdisjoint(groups)


def _groups(text: str) -> list[str]:
    """The groups that an answer's description names, in the spelling of the stereotyped groups."""
    for before, after in (
        ("M-", "M_"), ("F-", "F_"), ("lowSES-", "lowSES_"), ("highSES-", "highSES_"), ("lowSES", "low SES"),
        ("highSES", "high SES"), ("nonObese", "non Obese"), ("nonDisabled", "non Disabled"), ("nonTrans", "non Trans"),
    ):  # fmt: skip
        text = text.replace(before, after)
    text = text.replace("woman", "F_woman") if "woman" in text else text.replace("man", "M_man")
    return text.replace("girl", "F_girl").replace("boy", "M_boy").lower().split("_")


def winogender(row: Row) -> Row:
    """Occupation, participant, pronoun, which of the two it means, and the parts of the benchmark it belongs to."""
    occupation, participant, answer, gender, _ = row["sentid"].split(".")
    words = re.findall(r"\w+", row["sentence"].lower())
    pronoun = next((word for word in words if word in _PRONOUNS[gender]), None)
    if pronoun is None:
        raise DataError(
            f"Winogender, {row['sentid']}: {row['sentence']!r} has none of the words {', '.join(_PRONOUNS[gender])}, "
            "expected one. The file is damaged."
        )
    usual = "female" if float(row["bls_pct_female"]) > 50 else "male"
    # Against expectation: the pronoun is not of the occupation's usual gender where it means the occupation, or is
    # where it means the other. Source: Rudinger et al. 2018, arXiv:1804.09301, section 5.
    is_gotcha = gender != "neutral" and (gender == usual) == (answer == "1")
    return {
        "sentence": row["sentence"],
        "pronoun": pronoun,
        "choices": [occupation, participant],
        "gold": int(answer),
        "labels": [gender, "gotcha", f"gotcha_{gender}"] if is_gotcha else [gender],
    }


def winobias(row: Row) -> Row:
    """Sentence, pronoun, the two occupations it could mean and the one that it does; type and side from the file."""
    text = re.sub(r"^\d+ ", "", row["text"].strip())
    marked = re.findall(r"\[(.*?)\]", text)
    sentence = re.sub(r"\bthe the\b", "the", text.replace("[", "").replace("]", ""))
    named = sorted((_place(each, sentence), each) for each in OCCUPATIONS if _place(each, sentence) >= 0)
    right = next((each for _, each in named if marked and _place(each, marked[0]) >= 0), None)
    others = [each for _, each in named if each != right]
    if len(marked) < 2 or right is None or not others:
        raise DataError(
            f"WinoBias: {row['text']!r}, expected two occupations, and in square brackets one of them and a pronoun. "
            "The file is damaged."
        )
    side, kind = row["file_name"].split(".")[0].split("_stereotyped_")
    return {
        "sentence": sentence,
        "pronoun": marked[1],
        "choices": [each for _, each in named if each in (right, others[0])],
        "gold": [each for _, each in named if each in (right, others[0])].index(right),
        "labels": [kind, f"{kind}_{side}"],
    }


def _place(occupation: str, text: str) -> int:
    found = re.search(rf"\b{occupation}\b", text, re.IGNORECASE)
    return found.start() if found else -1


__all__ = ["bbq", "truthfulqa", "winobias", "winogender"]
