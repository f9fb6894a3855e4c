"""Constrained answers of the starter: 500 and more against their schemas, 100 answers with tools, and their speed.

    python benchmarks/proof_constraints.py [PART ...] [--rounds N]

A PART is one of schemas, tools and speed; all by default (some minutes). The starter is a small base model: what it
says is poor, so what it can get wrong it does. Free and constrained decoding alternate, and each figure is the median.
What the parts find replaces what they found before in benchmarks/results/constraints.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
from run import machine

import gemcut
from gemcut.generate import TextModel
from gemcut.interfaces import Constraint
from gemcut.text.tool_calls import (
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallParser,
    choose_tools,
    gather,
    parse_tool_calls,
    read_tools,
)
from gemcut.text.tool_calls_gemma import GemmaToolFormat

HERE = Path(__file__).resolve().parent
SCHEMAS = json.loads((HERE.parent / "tests" / "generate" / "data" / "schemas.json").read_text(encoding="utf-8"))
RESULTS = HERE / "results" / "constraints.json"
SEEDS = range(10)
RUNNING = 8
MAX_TOKENS = 200
SPEED_TOKENS = 160
BAR = 0.9
LOOKED_UP = "greedy, 1"  # free text alone may be guessed from what it has said before: shown, but no bar

RECORDS = {
    "type": "array",
    "minItems": 99,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "email": {"type": "string", "maxLength": 30},
            "tags": {"type": "array", "items": {"enum": ["new", "old", "vip"]}, "maxItems": 3},
        },
        "required": ["name", "age", "email", "tags"],
        "additionalProperties": False,
    },
}
STORY = {"type": "object", "properties": {"story": {"type": "string", "minLength": 4000}}, "required": ["story"]}


def main() -> None:
    """Run the parts, print what they found, keep it; exit code 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"out of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5, help="of the speeds")
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"{unknown[0]} is no part; expected some of {', '.join(PARTS)}")
    kept = json.loads(RESULTS.read_text())["parts"] if RESULTS.is_file() else {}
    lm = gemcut.load("starter", engine="native")
    begin = time.perf_counter()
    lm.constraints.regex("a")
    prepared = time.perf_counter() - begin
    passed = True
    for part in arguments.parts or PARTS:
        found = PARTS[part](lm, arguments.rounds)
        passed &= found["passed"]
        print(f"{part}: {'passed' if found['passed'] else 'FAILED'}")
        for name, value in found.items():
            print(f"  {name}: {value}")
        kept[part] = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": f"python benchmarks/proof_constraints.py {part} --rounds {arguments.rounds}",
            **found,
        }
    versions = {name: importlib.metadata.version(name) for name in ("gemcut", "llguidance", "jsonschema")}
    report = {"name": "constraints", "versions": versions, "machine": machine(), "prepare_seconds": round(prepared, 2)}
    RESULTS.write_text(json.dumps({**report, "parts": kept}, indent=1, ensure_ascii=False) + "\n")
    sys.exit(0 if passed else 1)


def schemas(lm: TextModel, _: int) -> dict[str, Any]:
    """Answers under each schema: valid wherever they are complete, and complete wherever the schema has a bound."""
    sequences = {
        (number, seed): lm.new_sequence(
            lm.tokenizer.encode(f"{case['name'].capitalize()} as JSON: "),
            constraint=lm.constraints.json_schema(case["schema"]),
            max_tokens=MAX_TOKENS,
            temperature=1.0,
            seed=seed,
        )
        for number, case in enumerate(SCHEMAS)
        for seed in SEEDS
    }
    lm.new_scheduler(RUNNING).run(list(sequences.values()))
    wrong, cut_off, valid = [], [], 0
    for (number, _seed), sequence in sequences.items():
        case = SCHEMAS[number]
        if sequence.finish_reason == "length" and not case["bounded"]:
            cut_off.append(case["name"])
        elif sequence.finish_reason == "stop" and _is_valid(sequence.text, case["schema"]):
            valid += 1
        else:
            wrong.append([case["name"], sequence.finish_reason, sequence.text])
    passed = not wrong and valid >= 500
    return {"passed": passed, "schemas": len(SCHEMAS), "valid": valid, "cut_off": cut_off, "wrong": wrong}


def _is_valid(text: str, schema: Any) -> bool:
    try:
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def tools(lm: TextModel, _: int) -> dict[str, Any]:
    """Answers to chats with tools, read whole and as they come."""
    form, described = GemmaToolFormat(), read_tools(TOOLS)
    assert lm.template is not None
    scheduler = lm.new_scheduler(RUNNING)
    answers: dict[int, _Answer] = {}
    for number, choice in enumerate(_choices()):
        chosen, is_required = choose_tools(described, choice)
        messages, _none = form.prompt([{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}], described)
        sequence = lm.new_sequence(
            lm.template.encode(messages),
            constraint=lm.constraints.tool_calls(chosen, form, is_required=is_required, is_parallel=number % 2 == 0),
            max_tokens=MAX_TOKENS,
            temperature=1.0,
            seed=number,
        )
        answers[id(sequence)] = _Answer(chosen, is_required, form.parser(chosen))
        scheduler.add(sequence)
    wrong = []
    while scheduler.has_work:
        for update in scheduler.step():
            answer = answers[id(update.sequence)]
            answer.events += answer.parser.push(update.text)
            if update.finished:
                answer.events += answer.parser.finish()
                as_a_whole = parse_tool_calls(form.parser(answer.tools), update.sequence.text)
                if not answer.is_right(as_a_whole):
                    wrong.append([update.sequence.finish_reason, update.sequence.text])
    calls = [len(gather(answer.events)[1]) for answer in answers.values()]
    counts = {"answers": len(answers), "calls": sum(calls), "without_calls": calls.count(0)}
    return {"passed": not wrong, **counts, "wrong": wrong}


@dataclasses.dataclass
class _Answer:
    """What may be called, and what was found of an answer as it came."""

    tools: tuple[Tool, ...]
    is_required: bool
    parser: ToolCallParser
    events: list[str | ToolCallDelta] = dataclasses.field(default_factory=list)

    def is_right(self, as_a_whole: tuple[str, list[ToolCall]]) -> bool:
        """Whether the pieces add up to the whole, and the calls are some of these tools with fitting arguments."""
        content, calls = gather(self.events)
        known = {tool.name: tool.arguments_schema for tool in self.tools}
        fit = all(call.name in known and _is_valid(call.arguments, known[call.name]) for call in calls)
        called = bool(calls) and not content
        return as_a_whole == (content, calls) and fit and (called or not self.is_required)


def _choices() -> Iterator[Any]:
    """What 100 requests say of their tools."""
    for number in range(100):
        named = {"type": "function", "function": {"name": TOOLS[number % len(TOOLS)]["function"]["name"]}}
        yield ("required", named, "auto", "required")[number % 4]


def speed(lm: TextModel, rounds: int) -> dict[str, Any]:
    """Tokens a second under constraints against those of free text, alone and eight side by side."""
    forms: dict[str, Callable[[], Constraint | None]] = {
        "free": lambda: None,
        "records": lambda: lm.constraints.json_schema(RECORDS),
        "story": lambda: lm.constraints.json_schema(STORY),
        "any JSON object": lambda: lm.constraints.json_schema({"type": "object", "minProperties": 50}),
        "free text with tools": lambda: lm.constraints.tool_calls(read_tools(TOOLS), GemmaToolFormat()),
    }
    found: dict[str, dict[str, list[float]]] = {}
    for _round in range(rounds):
        for sampling in ("greedy", "sampled"):
            for num_texts in (1, 8):
                setting = f"{sampling}, {num_texts}"
                for name, make in forms.items():
                    found.setdefault(setting, {}).setdefault(name, []).append(_rate(lm, make, num_texts, sampling))
    rates = {
        setting: {name: statistics.median(values) for name, values in of_form.items()}
        for setting, of_form in found.items()
    }
    ratios = {
        setting: {name: round(rate / of_form["free"], 3) for name, rate in of_form.items() if name != "free"}
        for setting, of_form in rates.items()
    }
    lowest = min(ratio for setting in ratios if setting != LOOKED_UP for ratio in ratios[setting].values())
    return {"passed": lowest >= BAR, "bar": BAR, "lowest": lowest, "ratios": ratios, "tokens_per_second": rates}


def _rate(lm: TextModel, make: Callable[[], Constraint | None], num_texts: int, sampling: str) -> float:
    """Tokens a second of some texts together; a text that ends early counts with what it has."""
    sequences = []
    for number in range(num_texts):
        prompt = lm.tokenizer.encode(f"{number}. Records of people as JSON, and a long story:")
        constraint = make()
        options: dict[str, Any] = {"temperature": 1.0, "seed": number} if sampling == "sampled" else {}
        options |= {"constraint": constraint, "ignore_stop_ids": constraint is None, "max_tokens": SPEED_TOKENS}
        sequences.append(lm.new_sequence(prompt, **options))
    begin = time.perf_counter()
    lm.new_scheduler(RUNNING).run(sequences)
    return sum(sequence.num_generated for sequence in sequences) / (time.perf_counter() - begin)


def _tool(name: str, description: str, required: list[str], **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


_CITY = {"type": "string", "maxLength": 30}
_CITIES = {"type": "array", "items": _CITY, "minItems": 1, "maxItems": 3}
_FEW = {"type": "integer", "minimum": 1, "maximum": 14}
_TEXT = {"type": "string", "maxLength": 80}
TOOLS = [
    _tool("get_weather", "The weather of a city.", ["city"], city=_CITY, days=_FEW),
    _tool("get_time", "The time of a city.", ["city"], city=_CITY, format={"enum": ["12h", "24h"]}),
    _tool("search", "Search the web.", ["query"], query=_TEXT, limit=_FEW),
    _tool("send_mail", "Send a mail.", ["to", "text"], to=_CITIES, text=_TEXT, urgent={"type": "boolean"}),
    _tool("turn_off", "Turn everything off.", []),
]
QUESTIONS = [
    "What is the weather in Paris?",
    "Wie spät ist es in Berlin?",
    "Tell Ann that I am late.",
    "東京の天気は",
    "Hi",
]

PARTS: dict[str, Callable[[TextModel, int], dict[str, Any]]] = {"schemas": schemas, "tools": tools, "speed": speed}

if __name__ == "__main__":
    main()
