"""What each task asks about a made-up row, with made-up examples: texts follow lm-evaluation-harness 0.4.13."""

from __future__ import annotations

import dataclasses
from typing import Any

from gemcut.evaluate.task_file import load_task


@dataclasses.dataclass(frozen=True)
class Case:
    """A task, rows of its files, and what it must ask about the first scored row.

    Attributes:
        task: Its name.
        rows: Of each file.
        before: Description and examples.
        question: What follows them; a list where the choices precede the scored text.
        continuations: Of a choice task; empty of one that generates.
        gold: What is right.
        shots: How many examples.
    """

    task: str
    rows: dict[str, list[dict[str, Any]]]
    before: str
    question: str | list[str]
    continuations: list[str]
    gold: list[Any]
    shots: int = 1


CASES = [
    Case(
        "hellaswag",
        {
            "validation.jsonl.gz": [
                {
                    "activity_label": "Baking",
                    "ctx_a": "[header] How to bake bread [title] Mix flour.",
                    "ctx_b": "then  you",
                    "endings": ["wait [step] there.", " run away.", "eat  it.", "sleep."],
                    "label": "2",
                }
            ],
            "fewshot_train5.jsonl": [{"query": "Rowing: A man", "choices": ["swims.", "rows."], "gold": 1}],
        },
        "Rowing: A man rows.\n\n",
        "Baking: How to bake bread. Mix flour. Then you",
        [" wait there.", " run away.", " eat it.", " sleep."],
        [2],
    ),
    Case(
        "boolq",
        {
            "validation_titled.jsonl.gz": [
                {"passage": "Sun -- It is hot.", "question": "is the sun hot", "answer": True}
            ],
            "train_sample1000.jsonl.gz": [{"passage": "Ice -- Cold.", "question": "is ice hot", "answer": False}],
        },
        "Ice -- Cold.\nQuestion: is ice hot?\nAnswer: no\n\n",
        "Sun -- It is hot.\nQuestion: is the sun hot?\nAnswer:",
        [" no", " yes"],
        [1],
    ),
    Case(
        "piqa",
        {
            "validation.jsonl.gz": [{"goal": "Open a jar", "sol1": "Twist.", "sol2": "Sing.", "label": 0}],
            "train_sample1000.jsonl.gz": [{"goal": "Boil water", "sol1": "Ice.", "sol2": "Heat.", "label": 1}],
        },
        "Question: Boil water\nAnswer: Heat.\n\n",
        "Question: Open a jar\nAnswer:",
        [" Twist.", " Sing."],
        [0],
    ),
    Case(
        "triviaqa",
        {
            "validation_wikipedia.jsonl.gz": [{"question_id": "a", "question": "Who?", "aliases": ["Bob", "Robert"]}],
            "fewshot_pool_nonwiki.jsonl.gz": [{"question": "Where?", "value": "Rome", "aliases": ["Roma", "Rome"]}],
        },
        "Question: Where??\nAnswer: Roma\n\n",
        "Question: Who??\nAnswer:",
        [],
        ["Bob", "Robert"],
    ),
    *(
        Case(
            name,
            {
                "test.jsonl.gz": [{"id": "a", "question": "What?", "choices": ["x", "y", "z"], "gold": 2}],
                "train.jsonl.gz": [{"id": "b", "question": "Why?", "choices": ["so", "no", "on"], "gold": 0}],
            },
            "Question: Why?\nAnswer: so\n\n",
            "Question: What?\nAnswer:",
            [" x", " y", " z"],
            [2],
        )
        for name in ("arc_challenge", "arc_easy")
    ),
    Case(
        "winogrande",
        {
            "validation.jsonl.gz": [
                {"sentence": "Ann met Bea so _ smiled _ twice.", "option1": "Ann", "option2": "Bea", "answer": "2"}
            ],
            "train_sample1000.jsonl.gz": [
                {"sentence": "A cup, _ broke.", "option1": "it", "option2": "he", "answer": "1"}
            ],
        },
        "A cup, it broke.\n\n",
        ["Ann met Bea so Ann", "Ann met Bea so Bea"],
        [" smiled _ twice."] * 2,
        [1],
    ),
    Case(
        "mmlu",
        {
            "test.jsonl.gz": [
                {
                    "question": " 1+1? ",
                    "subject": "high_school_mathematics",
                    "choices": ["1", "2", "3", "4"],
                    "answer": 1,
                }
            ],
            "dev.jsonl.gz": [
                {"question": "Else?", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 0},
                {
                    "question": "2+2?",
                    "subject": "high_school_mathematics",
                    "choices": ["1", "2", "3", "4"],
                    "answer": 3,
                },
                {
                    "question": "3+3?",
                    "subject": "high_school_mathematics",
                    "choices": ["1", "6", "3", "4"],
                    "answer": 1,
                },
            ],
        },
        "The following are multiple choice questions (with answers) about high school mathematics.\n\n"
        "2+2?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: D\n\n3+3?\nA. 1\nB. 6\nC. 3\nD. 4\nAnswer: B\n\n",
        "1+1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:",
        [" A", " B", " C", " D"],
        [1],
        shots=2,
    ),
    Case(
        "gsm8k",
        {
            "test.jsonl.gz": [{"question": "One and one?", "answer": "1+1=2\n#### 2"}],
            "train.jsonl.gz": [{"question": "Two and two?", "answer": "2+2=4\n#### 4"}],
        },
        "Question: Two and two?\nAnswer: 2+2=4\n#### 4\n\n",
        "Question: One and one?\nAnswer:",
        [],
        ["1+1=2\n#### 2"],
    ),
    Case(
        "gsm8k_cot",
        {
            "test.jsonl.gz": [{"question": "One and one?", "answer": "1+1=2\n#### 2"}],
            "fewshot_cot8.jsonl": [{"question": "Two and two?", "target": "It is 4. The answer is 4."}],
        },
        "Q: Two and two?\nA: It is 4. The answer is 4.\n\n",
        "Q: One and one?\nA:",
        [],
        ["2"],
    ),
    Case(
        "social_iqa",
        {
            "validation.jsonl.gz": [
                {
                    "context": "Al fell.",
                    "question": "Why?",
                    "answerA": "ice",
                    "answerB": "fun",
                    "answerC": "no",
                    "label": "3",
                }
            ],
            "fewshot_train5.jsonl": [
                {"context_question": "Bo ran. Why?", "answerA": "late", "answerB": "bus", "answerC": "x", "label": "1"}
            ],
        },
        "Q: Bo ran. Why?\nA: late\n\n",
        "Q: Al fell. Why?\nA:",
        [" ice", " fun", " no"],
        [2],
    ),
    Case(
        "commonsense_qa",
        {
            "validation.jsonl.gz": [
                {
                    "id": "a",
                    "question": " Where? ",
                    "choices": {"label": list("ABCDE"), "text": list("vwxyz")},
                    "answerKey": "B",
                }
            ],
            "train_sample1000.jsonl.gz": [{"id": "b", "question": "When?", "choices": list("12345"), "gold": 4}],
        },
        "Question: When?\nA. 1\nB. 2\nC. 3\nD. 4\nE. 5\nAnswer: E\n\n",
        "Question: Where?\nA. v\nB. w\nC. x\nD. y\nE. z\nAnswer:",
        [" A", " B", " C", " D", " E"],
        [1],
    ),
    Case(
        "openbookqa",
        {
            "test.jsonl.gz": [{"id": "a", "question": "Frogs live in", "choices": ["water", "fire"], "gold": 0}],
            "train_sample1000.jsonl.gz": [{"id": "b", "question": "Birds", "choices": ["swim", "fly"], "gold": 1}],
        },
        "Birds fly\n\n",
        "Frogs live in",
        [" water", " fire"],
        [0],
    ),
    Case(
        "nq_open",
        {
            "validation.jsonl.gz": [{"question": "who is it", "answer": ["Al", "Bo"]}],
            "fewshot_train5.jsonl": [{"question": "where is it", "answer": ["There", "Here"]}],
            "efficientqa_dev.jsonl.gz": [{"question": "when", "answer": ["now"]}],
        },
        "Answer these questions:\n\nQ: where is it?\nA: There\nQ: when?\nA: now\n",
        "Q: who is it?\nA:",
        [],
        ["Al", "Bo"],
        shots=2,
    ),
    Case(
        "humaneval",
        {
            "HumanEval.jsonl.gz": [
                {"task_id": "a", "prompt": "def f():\n", "entry_point": "f", "test": "def check(f): 1"}
            ]
        },
        "",
        "def f():\n",
        [],
        [],
        shots=0,
    ),
    Case(
        "mbpp",
        {
            "mbpp.jsonl.gz": [
                {"task_id": number, "text": f"Do {number}.", "code": f"x = {number}", "test_list": ["t1", "t2", "t3"]}
                for number in (1, 2, 3, 4, 5, 11, 510, 511)
            ]
        },
        "You are an expert Python programmer, and here is your task: Do 2. Your code should pass these tests:\n\n"
        "t1\nt2\nt3\n[BEGIN]\nx = 2\n[DONE]\n\n",
        "You are an expert Python programmer, and here is your task: Do 11. Your code should pass these tests:\n\n"
        "t1\nt2\nt3\n[BEGIN]\n",
        [],
        [],
    ),
    Case(
        "math",
        {
            "test.jsonl.gz": [
                {"problem": "1+1?", "level": "Level 1", "type": "Algebra", "solution": "It is $\\boxed{2}$."}
            ],
            "fewshot_minerva4.jsonl": [{"problem": "2+2?", "solution": "It is $\\boxed{4}$."}],
        },
        "Problem:\n2+2?\n\nSolution: It is $\\boxed{4}$.\n\n",
        "Problem:\n1+1?\n\nSolution:",
        [],
        ["It is $\\boxed{2}$."],
    ),
    Case(
        "agieval",
        {
            **{file: [] for file in load_task("agieval").files},
            "sat-en.jsonl.gz": [
                {
                    "passage": "A text.",
                    "question": "So?",
                    "options": ["(A)a", "(B)b", "(C)c"],
                    "label": "B",
                    "other": None,
                }
            ],
        },
        "",
        "A text.Q: So? Answer Choices: (A)a (B)b (C)c\nA: Among A through C, the answer is",
        [" (A)a", " (B)b", " (C)c"],
        [1],
        shots=0,
    ),
    Case(
        "agieval",
        {
            **{file: [] for file in load_task("agieval").files},
            "math.jsonl.gz": [{"passage": None, "question": "So?", "options": None, "label": None, "answer": "2"}],
        },
        "",
        "Q: So?\nA: The answer is",
        [],
        ["2"],
        shots=0,
    ),
    Case(
        "bbh",
        {
            "test.jsonl.gz": [{"task": "navigate", "input": "Turn.", "target": "No"}],
            "cot_prompts.jsonl.gz": [
                {
                    "task": "navigate",
                    "prompt": "canary\n-----\nFind the way.\n\nQ: Go.\nA: Let's think step by step.\n(1) Go.\n\nSo the answer is "
                    "Yes.\n\nQ: Stop.\nA: Let's think step by step. Stop. So the answer is No.",
                }
            ],
        },
        "Find the way.\n\nQ: Go.\nA: Let's think step by step.\n(1) Go.\n\nSo the answer is Yes.\n\n"
        "Q: Stop.\nA: Let's think step by step.\nStop. So the answer is No.\n\n",
        "Q: Turn.\nA: Let's think step by step.\n",
        [],
        ["No"],
        shots=2,
    ),
    Case(
        "ifeval",
        {
            "input_data.jsonl.gz": [
                {"key": 1, "prompt": "Say it.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
            ]
        },
        "",
        "Say it.",
        [],
        [],
        shots=0,
    ),
]
