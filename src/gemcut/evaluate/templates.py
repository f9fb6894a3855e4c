"""Texts and values out of a row's fields: Jinja templates in a sandbox, as chat templates are."""

from __future__ import annotations

from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gemcut.errors import DataError
from gemcut.evaluate.data import Row

_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False, cache_size=0
)


class Template:
    """A text with fields of a row, such as "Question: {{ question }}".

    Args:
        source: The template.
        where: For errors: which key of which file it is.

    Raises:
        DataError: it is not a template.
    """

    def __init__(self, source: str, where: str) -> None:
        self.source, self._where = source, where
        try:
            self._template = _ENVIRONMENT.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise _broken(where, source, error) from None

    def render(self, row: Row) -> str:
        """The text of a row.

        Raises:
            DataError: the row lacks a field, or has one of another kind.
        """
        try:
            return self._template.render(row)
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise _unfit(self._where, self.source, row, error) from None


class Expression:
    """A value computed from fields of a row, such as "[sol1, sol2]" or "label | int"; arguments as of `Template`."""

    def __init__(self, source: str, where: str) -> None:
        self.source, self._where = source, where
        try:
            self._compiled = _ENVIRONMENT.compile_expression(source, undefined_to_none=False)
        except jinja2.TemplateSyntaxError as error:
            raise _broken(where, source, error) from None

    def value(self, row: Row) -> Any:
        """The value of a row; raises as `Template.render` does."""
        try:
            value = self._compiled(row)
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise _unfit(self._where, self.source, row, error) from None
        if isinstance(value, jinja2.Undefined):
            raise _unfit(self._where, self.source, row, "no such field")
        return value


def _broken(where: str, source: str, error: jinja2.TemplateSyntaxError) -> DataError:
    return DataError(f"{where}: {source!r} is not a Jinja template ({error.message}). Correct it.")


def _unfit(where: str, source: str, row: Row, error: Exception | str) -> DataError:
    return DataError(
        f"{where}: {source!r} cannot be filled from a row with the fields {', '.join(map(str, row))} ({error}). "
        "Correct the task, or the data."
    )
