"""From what a request says of the answer's form to a constraint."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

from gemcut.generate.constraints import GrammarCompiler
from gemcut.interfaces import Constraint
from gemcut.serve.errors import RequestError
from gemcut.serve.requests import GenerationRequest, ResponseFormat, StructuredOutputs
from gemcut.serve.tool_use import ToolUse

NewConstraint = Callable[[], Constraint | None]


def constraint_maker(asked: GenerationRequest, compiler: GrammarCompiler, tool_use: ToolUse | None) -> NewConstraint:
    """Makes what each text of a request must obey; it is compiled here, so an error comes before the model is asked.

    Raises:
        RequestError: the request wants two forms at once.
        UsageError: the schema, pattern or grammar cannot be compiled.
    """
    wanted: dict[str, Callable[[], Constraint]] = {}
    if asked.response_format is not None and asked.response_format.type != "text":
        wanted["response_format"] = _of_format(asked.response_format, compiler)
    for name, make in _of_structured(asked.structured_outputs, compiler).items():
        wanted[f"structured_outputs.{name}"] = make
    if asked.regex is not None:
        wanted["regex"] = functools.partial(compiler.regex, asked.regex)
    if asked.grammar is not None:
        wanted["grammar"] = functools.partial(compiler.lark, asked.grammar)
    if tool_use is not None and tool_use.callable_tools:
        wanted["tools"] = functools.partial(tool_use.constraint, compiler)
    if not wanted:
        return lambda: None
    if len(wanted) > 1:
        raise RequestError(f"{' and '.join(wanted)}: they do not go together. Give one of them.", param=max(wanted))
    (name, make) = wanted.popitem()
    if asked.ignore_eos:
        raise RequestError(
            f"ignore_eos: a text under {name} ends where it is complete. Leave it out.", param="ignore_eos"
        )
    make()
    return make


def _of_format(asked: ResponseFormat, compiler: GrammarCompiler) -> Callable[[], Constraint]:
    if asked.type == "json_object" or asked.json_schema is None:
        return compiler.json_object
    return functools.partial(compiler.json_schema, asked.json_schema.schema_)


def _of_structured(asked: StructuredOutputs | None, compiler: GrammarCompiler) -> dict[str, Callable[[], Constraint]]:
    if asked is None:
        return {}
    makers: dict[str, Callable[[], Constraint]] = {}
    if asked.json_ is not None:
        makers["json"] = functools.partial(compiler.json_schema, asked.json_)
    if asked.json_object:
        makers["json_object"] = compiler.json_object
    if asked.regex is not None:
        makers["regex"] = functools.partial(compiler.regex, asked.regex)
    if asked.grammar is not None:
        makers["grammar"] = functools.partial(compiler.lark, asked.grammar)
    if asked.choice is not None:
        texts = " | ".join(json.dumps(text, ensure_ascii=False) for text in asked.choice)
        makers["choice"] = functools.partial(compiler.lark, f"start: {texts}\n")
    return makers
