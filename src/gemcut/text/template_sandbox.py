"""A Jinja environment for templates that came with a checkpoint: no way to Python, no endless work, no huge text."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.sandbox
from jinja2 import nodes
from jinja2.visitor import NodeTransformer

_MAX_STEPS = 250_000  # loop rounds and calls in one rendering; a conversation of 1,000 messages takes some 10,000
_MAX_SECONDS = 10.0
MAX_CHARACTERS = 1 << 24  # longest text or list; far above any context
_MAX_WIDTH = 10_000  # columns a text may be padded or indented to
_MAX_BITS = 4096  # of a product or power of whole numbers
_WIDE_FORMAT = re.compile(r"\d{5,}|\*")


class TemplateLimitError(jinja2.TemplateRuntimeError):
    """A template does more work than any chat template needs."""


class _Budget:
    """What is left of the work one rendering may do."""

    def __init__(self) -> None:
        self.steps = _MAX_STEPS
        self.deadline = time.monotonic() + _MAX_SECONDS

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0 or time.monotonic() > self.deadline:
            raise TemplateLimitError(f"more than {_MAX_STEPS} steps or {_MAX_SECONDS:g} seconds of work")


_BUDGET: contextvars.ContextVar[_Budget] = contextvars.ContextVar("gemcut_template_budget")


@contextlib.contextmanager
def limited_work() -> Iterator[None]:
    """Give the renderings inside one fresh budget."""
    token = _BUDGET.set(_Budget())
    try:
        yield
    finally:
        _BUDGET.reset(token)


class TemplateSandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """Jinja as transformers sets it up for chat templates, with every loop, call and long text counted.

    Args:
        filters: Filters beside Jinja's own, or in their place.
    """

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self, filters: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation])
        self.filters = {name: _checked_filter(name, function) for name, function in {**self.filters, **filters}.items()}
        self.filters |= {_COUNT: _count_rounds, _CONCAT: _concat, _CHECK: _check_length}
        self.globals["range"] = _counted_range
        del self.globals["lipsum"]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _AddCounters().visit(super()._parse(source, name, filename))

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        """Refuse at once: Jinja alone would show an attribute that is off limits as nothing."""
        kind = type(obj).__name__
        raise jinja2.exceptions.SecurityError(f"access to attribute {attribute!r} of {kind!r} object is unsafe")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Do one arithmetic operation, unless its result would be huge."""
        if operator in ("*", "**"):
            _check_product(operator, left, right)
        elif operator == "%" and isinstance(left, str) and _WIDE_FORMAT.search(left):
            raise TemplateLimitError("a format that pads a text")
        return _check_length(super().call_binop(context, operator, left, right))

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Make one call, counted; text methods may not make huge texts."""
        _spend(1)
        method = getattr(function, "__wrapped__", function)  # Jinja wraps str.format
        text = getattr(method, "__self__", None)
        if isinstance(text, str | bytes):
            _check_text_arguments(method.__name__, text, args + tuple(kwargs.values()))
        return _check_length(super().call(context, function, *args, **kwargs))


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, with which training marks the assistant's text; here its body is plain output."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own protocol

    def parse(self, parser: Any) -> Any:
        """The nodes between the two tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


_COUNT, _CONCAT, _CHECK = "gemcut_count", "gemcut_concat", "gemcut_check"


class _AddCounters(NodeTransformer):
    """Puts a counter on every loop and a length check on every way to build a text."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _filtered(node.iter, _COUNT)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), _CONCAT)

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:
        self.generic_visit(node)
        node.filter = nodes.Filter(node.filter, _CHECK, [], [], None, None, lineno=node.lineno)
        return node


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(cast(nodes.Expr, node), name, [], [], None, None, lineno=node.lineno)


def _spend(steps: int) -> None:
    # Jinja tries constant expressions at compile time, before any rendering.
    budget = _BUDGET.get(None)
    if budget is not None:
        budget.spend(steps)


@jinja2.pass_context  # so that Jinja never folds the loop over a constant at compile time, uncounted
def _count_rounds(_context: Any, iterable: Any) -> Any:
    """`iterable`, with its rounds spent at once where their number is known, else one by one."""
    try:
        _spend(len(iterable) + 1)
        return iterable
    except TypeError:
        return _one_by_one(iterable)


def _one_by_one(iterable: Iterable[Any]) -> Iterator[Any]:
    for value in iterable:
        _spend(1)
        yield value


def _counted_range(*args: int) -> range:
    result = jinja2.sandbox.safe_range(*args)
    _spend(len(result))
    return result


def _concat(values: list[Any]) -> str:
    return _check_length("".join(map(str, values)))


def _check_length(value: Any) -> Any:
    """`value`, unless it is a huge text or list."""
    if isinstance(value, str | bytes | list | tuple) and len(value) > MAX_CHARACTERS:
        raise TemplateLimitError(f"a value of more than {MAX_CHARACTERS} characters or entries")
    return value


def _check_product(operator: str, left: Any, right: Any) -> None:
    for text, times in ((left, right), (right, left)):
        if isinstance(text, str | bytes | list | tuple) and isinstance(times, int):
            if len(text) * times > MAX_CHARACTERS:
                raise TemplateLimitError(f"a value of more than {MAX_CHARACTERS} characters or entries")
            return
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
        if bits > _MAX_BITS:
            raise TemplateLimitError(f"a number of more than {_MAX_BITS} bits")


def _check_text_arguments(name: str, text: Any, args: tuple[Any, ...]) -> None:
    """Refuse a text method, or the filter of that name, whose result would be huge."""
    if name == "replace" and len(args) > 1 and isinstance(args[0], str) and isinstance(args[1], str):
        if len(text) + (len(text) // max(1, len(args[0])) + 1) * len(args[1]) > MAX_CHARACTERS:
            raise TemplateLimitError(f"a value of more than {MAX_CHARACTERS} characters or entries")
    elif name in ("format", "format_map"):
        if _WIDE_FORMAT.search(text):
            raise TemplateLimitError("a format that pads a text")
    elif name not in _UNPADDED and any(isinstance(value, int) and value > _MAX_WIDTH for value in args):
        raise TemplateLimitError(f"a width of more than {_MAX_WIDTH}")


# Filters that take a number as a value, not as a width to fill.
_UNPADDED = frozenset("abs default d float int round string sum truncate filesizeformat replace join".split())


def _checked_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that refuses to make huge texts."""
    # Filters that want Jinja's context, environment or evaluation state get it first.
    value_index = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        value, others = args[value_index], args[value_index + 1 :] + tuple(kwargs.values())
        if name == "join" and isinstance(value, list | tuple):
            separator = others[0] if others and isinstance(others[0], str) else ""
            if sum(len(text) for text in value if isinstance(text, str)) + len(separator) * len(value) > MAX_CHARACTERS:
                raise TemplateLimitError(f"a value of more than {MAX_CHARACTERS} characters or entries")
        else:
            _check_text_arguments(name, value if isinstance(value, str) else "", others)
        return _check_length(function(*args, **kwargs))

    return checked
