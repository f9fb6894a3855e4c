"""From the JSON schema of a tool's arguments to the grammar of FunctionGemma's way to write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from gemcut.errors import UsageError
from gemcut.text.tool_calls import Tool

ESCAPE = "<escape>"
_KEY = re.compile(r"[^:{}\[\],<>\s]+")
_ANY_KEY = "/[A-Za-z_][A-Za-z0-9_]*:/"
_REFERENCE = re.compile(r"#/(\$defs|definitions)/([^/~]+)")
# Keywords that say nothing of what a value may be.
_ANNOTATIONS = frozenset(
    "title description default examples deprecated readOnly writeOnly $schema $id $comment $defs definitions".split()
)
_KEYWORDS = {
    "string": {"minLength", "maxLength"},
    "array": {"items", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties"},
}
_SCALARS = ("integer", "number", "boolean", "null")  # written as in JSON
_ANY = ("string", *_SCALARS, "array", "object")


def arguments_grammar(tool: Tool, rule: str) -> list[str]:
    """Lark rules of a tool's arguments, braces included, the first of which is named `rule`.

    Strings stand between two <escape>, names of properties stand bare and in alphabetical order, as in the prompts
    that the model was trained on. What the schema says and the rules do not is left out, unless the tool is strict.

    Raises:
        UsageError: the schema cannot be written in this format, or not all of it for a strict tool.
    """
    writer = _RuleWriter(tool, rule)
    try:
        writer.define(rule, tool.arguments_schema)
    except (TypeError, AttributeError, RecursionError):
        raise UsageError(f"tools: {tool.name}: parameters: they are no JSON schema, or too deep.") from None
    return [writer.lines[-1], *writer.lines[:-1]]


class _RuleWriter:
    """Writes one rule for each schema that is an object, an array, or referred to."""

    def __init__(self, tool: Tool, prefix: str) -> None:
        self.lines: list[str] = []
        self._tool, self._prefix = tool, prefix
        self._references: dict[str, str] = {}
        self._any = ""
        self._num_rules = 0

    def define(self, rule: str, schema: Any) -> str:
        """Write a rule of the given name."""
        self.lines.append(f"{rule}: {self._value(schema)}")
        return rule

    def _value(self, schema: Any) -> str:
        """The expression of a schema."""
        if schema is True or schema == {}:
            return self._anything()
        if not isinstance(schema, Mapping):
            raise self._error(f"the schema {schema!r:.80} allows nothing")
        if "$ref" in schema:
            return self._reference(str(schema["$ref"]), schema)
        if "enum" in schema or "const" in schema:
            self._check(schema, {"enum", "const", "type"})
            values = schema["enum"] if "enum" in schema else [schema["const"]]
            return _either(self._literal(value) for value in values)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                self._check(schema, {keyword, "type"})
                return _either(self._value(option) for option in schema[keyword])
        types = schema.get("type", _ANY)
        types = [types] if isinstance(types, str) else list(types)
        self._check(schema, {"type"}.union(*(_KEYWORDS.get(kind, schema.keys()) for kind in types)))
        return _either(self._of_type(kind, schema) for kind in types)

    def _of_type(self, kind: str, schema: Mapping[str, Any]) -> str:
        if kind == "string":
            return self._string(schema)
        if kind == "array":
            return self._array(schema)
        if kind == "object":
            return self._object(schema)
        if kind not in _SCALARS:
            raise self._error(f"type is {kind!r:.40}, expected one of {', '.join(_ANY)}")
        kept = {key: value for key, value in schema.items() if key not in _ANNOTATIONS} | {"type": kind}
        return self._tool.json_rule(kept)

    def _string(self, schema: Mapping[str, Any]) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength", "")
        if most == 0:
            return f"{ESCAPE} {ESCAPE}"
        text = f"/(?s:.{{{max(least, 1)},{most}}})/"
        return f"{ESCAPE} {text}{'' if least else '?'} {ESCAPE}"

    def _array(self, schema: Mapping[str, Any]) -> str:
        least, most = schema.get("minItems", 0), schema.get("maxItems", "")
        if most == 0:
            return '"[" "]"'
        item = self._rule(schema.get("items", True))
        further = f'("," {item}){{{max(least - 1, 0)},{"" if most == "" else most - 1}}}'
        items = f"{item} {further}"
        return f'"[" {items if least else f"({items})?"} "]"'

    def _object(self, schema: Mapping[str, Any]) -> str:
        properties = schema.get("properties", {})
        required = set(schema.get("required", ()))
        others = schema.get("additionalProperties", not properties)
        if not properties and not required:
            if others is False:
                return '"{" "}"'
            member = f"{_ANY_KEY} {self._rule(others)}"
            return f'"{{" ({member} ("," {member})*)? "}}"'
        if missing := sorted(required - set(properties)):
            raise self._error(f"{missing[0]!r:.80} is required, but not among the properties")
        return f'"{{" {self._members(dict(properties), required)} "}}"'

    def _members(self, properties: Mapping[str, Any], required: set[str]) -> str:
        """Properties in alphabetical order, those that are not required perhaps left out, commas between."""
        starts: list[str] = []
        rest = ""  # what may follow once something is written
        for name in sorted(properties, reverse=True):
            if not _KEY.fullmatch(name):
                raise self._error(f"the property {name!r:.80} cannot be written without quotes")
            if starts:
                rest = self._new_rule(rest)
            is_required = name in required
            member = f"{json.dumps(name + ':')} {self._rule(properties[name])}"
            starts = [f"{member} {rest}", *([] if is_required else starts)]
            rest = f'"," {member} {rest}' if is_required else f'("," {member})? {rest}'
        return f"({_either(starts)})" + ("" if required else "?")

    def _literal(self, value: Any) -> str:
        """One value as a string of literals."""
        if isinstance(value, str):
            return f"{ESCAPE} {json.dumps(value, ensure_ascii=False) if value else ''} {ESCAPE}"
        if isinstance(value, list):
            return f'"[" {self._between(map(self._literal, value))} "]"'
        if isinstance(value, Mapping):
            members = (f"{json.dumps(key + ':')} {self._literal(value[key])}" for key in sorted(value))
            return f'"{{" {self._between(members)} "}}"'
        return json.dumps(json.dumps(value))

    def _between(self, parts: Iterable[str]) -> str:
        return ' "," '.join(parts)

    def _reference(self, target: str, schema: Mapping[str, Any]) -> str:
        """The rule of a schema under "$defs"; it may refer to itself."""
        self._check(schema, {"$ref"})
        found = _REFERENCE.fullmatch(target)
        definitions = self._tool.arguments_schema.get(found[1], {}) if found else {}
        if not found or found[2] not in definitions:
            raise self._error(f'$ref is {target!r:.80}, expected the name of a schema under "#/$defs/"')
        if target not in self._references:
            self._references[target] = self._new_name()
            self.define(self._references[target], definitions[found[2]])
        return self._references[target]

    def _anything(self) -> str:
        """The rule of any value, which holds others of its kind."""
        if not self._any:
            self._any = self._new_name()
            self.define(self._any, {"type": list(_ANY)})
        return self._any

    def _rule(self, schema: Any) -> str:
        """The name of a rule for a schema."""
        return self._new_rule(self._value(schema))

    def _new_rule(self, expression: str) -> str:
        """The name of a rule for an expression; nothing for the empty one."""
        if not expression.strip():
            return ""
        name = self._new_name()
        self.lines.append(f"{name}: {expression}")
        return name

    def _new_name(self) -> str:
        self._num_rules += 1
        return f"{self._prefix}_{self._num_rules}"

    def _check(self, schema: Mapping[str, Any], known: Iterable[str]) -> None:
        """Refuse a keyword that the rules would not obey, if the tool is strict."""
        unknown = sorted(set(schema) - set(known) - _ANNOTATIONS)
        if unknown and self._tool.is_strict:
            raise self._error(f"the keyword {unknown[0]!r:.80} is not supported here; leave it out, or strict")

    def _error(self, found: str) -> UsageError:
        return UsageError(f"tools: {self._tool.name}: parameters: {found}. FunctionGemma's format cannot express it.")


def _either(options: Iterable[str]) -> str:
    """One of several expressions."""
    distinct = list(dict.fromkeys(options))
    return distinct[0] if len(distinct) == 1 else f"({' | '.join(distinct)})"
