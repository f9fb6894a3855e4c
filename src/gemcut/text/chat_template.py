"""Chat messages to a prompt, through a Jinja template that only speaks for itself."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import jinja2.exceptions
from jinja2 import nodes

from gemcut.errors import TemplateError, UsageError
from gemcut.text.builtin_templates import builtin_template
from gemcut.text.message_text import Disguise, MessageGuard
from gemcut.text.template_sandbox import MAX_CHARACTERS, TemplateLimitError, TemplateSandbox, limited_work
from gemcut.text.tokenizer import Tokenizer
from gemcut.text.tool_calls import checked_call

Messages = Sequence[Mapping[str, Any]]
_PRIVATE_USE_ESCAPE = re.compile(r"(?<!\\)\\u((?:e[0-9a-f]|f[0-8])[0-9a-f]{2})")


class ChatTemplate:
    """A chat template and the tokenizer whose markers it writes.

    Args:
        source: Jinja source, as transformers understands it.
        tokenizer: Gives the special tokens, and the ids.
        where: File name or the like for messages.
        is_builtin: The source is Gemcut's own, not the model's.

    Raises:
        TemplateError: the source is not a Jinja template.
    """

    def __init__(self, source: str, *, tokenizer: Tokenizer, where: str, is_builtin: bool = False) -> None:
        self.source = source
        self.where = where
        self.is_builtin = is_builtin
        self._tokenizer = tokenizer
        self._guard = MessageGuard(tokenizer.special_tokens)
        sandbox = TemplateSandbox({"tojson": _to_json})
        sandbox.globals |= {"raise_exception": self._refuse, "strftime_now": _strftime_now}
        try:
            self._template = sandbox.from_string(source)
            self._takes_parts = _loops_over_content(sandbox.parse(source))
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                f"{where}: line {error.lineno} is not valid Jinja ({error.message}). Correct the chat template."
            ) from None
        except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
            raise TemplateError(
                f"{where}: cannot be compiled ({type(error).__name__}). Simplify the chat template."
            ) from None

    def render(
        self,
        messages: Messages,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> str:
        """The prompt as text.

        Args:
            messages: OpenAI-style: mappings with `role` and `content` (text, a list of text parts, or none).
            tools: OpenAI-style tool descriptions.
            add_generation_prompt: End with the opening of the assistant's turn.
            continue_final_message: End where the last message's text ends, so that it goes on.
            variables: Further variables of the template.

        Raises:
            UsageError: the messages are not of that form.
            TemplateError: the template refuses the messages, fails, or is unsafe.
        """
        variables = {**variables, "add_generation_prompt": add_generation_prompt}
        disguise, text = self._render(messages, tools, variables, continue_final_message)
        return disguise.restore(text)

    def encode(
        self,
        messages: Messages,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> list[int]:
        """The prompt as token ids; arguments and errors as of `render`.

        The template's own markers are control tokens. Text of the messages, tools and variables is text, whatever it
        says. The prompt begins with the beginning-of-text token once if the tokenizer or the template puts it there.
        """
        parts = self.parts(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            **variables,
        )
        return self._tokenizer.encode_parts(parts)

    def parts(
        self,
        messages: Messages,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> list[str | int]:
        """The prompt as plain texts and control-token ids, which `encode` turns into ids; arguments as there."""
        variables = {**variables, "add_generation_prompt": add_generation_prompt}
        disguise, text = self._render(messages, tools, variables, continue_final_message)
        parts = self._tokenizer.split_special(text)
        return [disguise.restore(part) if isinstance(part, str) else part for part in parts]

    def _render(
        self, messages: Messages, tools: Any, variables: Mapping[str, Any], continues: bool
    ) -> tuple[Disguise, str]:
        """The prompt with the messages' control-token text hidden, and what brings it back."""
        checked = [_message(message, index, self._takes_parts) for index, message in enumerate(_listed(messages))]
        inputs = {"messages": checked, "tools": list(tools) if tools else None, **variables}
        disguise = self._guard.disguise([inputs, self.source])
        names = ("bos_token", "eos_token", "pad_token")
        ids = (getattr(self._tokenizer, f"{name}_id") for name in names)
        pieces = {name: self._tokenizer.piece_of(i) for name, i in zip(names, ids, strict=True) if i is not None}
        context = pieces | disguise.hide(inputs)
        if not continues:
            return disguise, self._run(context)
        _mark_end(context["messages"][-1], disguise.unused)
        text, mark, _ = self._run(context).partition(disguise.unused)
        if not mark:
            raise TemplateError(f"{self.where}: leaves out the last message. Let it be the assistant's.")
        return disguise, text

    def _run(self, context: dict[str, Any]) -> str:
        """The template's output, with whatever it raises as a TemplateError."""
        output: list[str] = []
        size = 0
        try:
            with limited_work():
                for chunk in self._template.generate(context):
                    output.append(chunk)
                    size += len(chunk)
                    if size > MAX_CHARACTERS:
                        raise TemplateError(
                            f"{self.where}: writes more than {MAX_CHARACTERS} characters. Correct the chat template."
                        )
        except TemplateError:
            raise
        except jinja2.exceptions.SecurityError as error:
            raise TemplateError(
                f"{self.where}: tries what a template must not do ({error}). Do not trust this checkpoint."
            ) from None
        except TemplateLimitError as error:
            raise TemplateError(
                f"{self.where}: makes {error}, more than any chat template needs. Do not trust this checkpoint."
            ) from None
        except jinja2.TemplateRuntimeError as error:
            raise TemplateError(f"{self.where}: fails on these messages ({error}). Check roles and contents.") from None
        except Exception as error:  # noqa: BLE001 - a template can make Python raise anything
            raise TemplateError(
                f"{self.where}: fails on these messages ({type(error).__name__}: {error}). Check roles and contents."
            ) from None
        return "".join(output)

    def _refuse(self, message: str) -> None:
        """What `raise_exception` does in a template."""
        raise TemplateError(f"{self.where}: the template refuses these messages: {message}")


def chat_template_for(
    tokenizer: Tokenizer, model_type: str, *, where: str, source: str | None = None
) -> ChatTemplate | None:
    """The template of a model: the one given, the one in its files, the family's built-in one, or None.

    Args:
        tokenizer: The model's tokenizer.
        model_type: As in config.json.
        where: What holds the tokenizer, for messages.
        source: Jinja source that goes before the model's own.
    """
    own = source if source is not None else tokenizer.chat_template
    if own is not None:
        return ChatTemplate(own, tokenizer=tokenizer, where=f"{where}: chat template")
    builtin = builtin_template(model_type, tokenizer)
    if builtin is None:
        return None
    return ChatTemplate(builtin, tokenizer=tokenizer, where=f"built-in {model_type} chat template", is_builtin=True)


def _listed(messages: Messages) -> list[Mapping[str, Any]]:
    if not isinstance(messages, list | tuple) or not messages:
        raise UsageError(
            f"messages: found {messages!r:.80}, expected a list of at least one {{'role': ..., 'content': ...}}."
        )
    return list(messages)


def check_message(message: Any, where: str) -> None:
    """Raises a UsageError for what is no message with a role; `where` names it."""
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise UsageError(f"{where}: found {message!r:.80}, expected {{'role': 'user', 'content': 'Hi'}} or alike.")


def content_texts(content: Any, where: str) -> list[str]:
    """The texts that a message's content consists of: one, those of its parts, or none.

    Raises:
        UsageError: the content is neither text nor a list of text parts.
    """
    if content is None or isinstance(content, str):
        return [content] if content else []
    if not isinstance(content, list | tuple):
        raise UsageError(f"{where}: content is a {type(content).__name__}, expected text or a list of text parts.")
    return [_part_text(part, where) for part in content]


def _message(message: Any, index: int, takes_parts: bool) -> dict[str, Any]:
    """A message that has been checked, its content as a text or as text parts, whichever the template reads."""
    where = f"messages[{index}]"
    check_message(message, where)
    message = dict(message)
    if isinstance(message.get("tool_calls"), list):
        message["tool_calls"] = [checked_call(call, where) for call in message["tool_calls"]]
    content = message.get("content")
    texts = content_texts(content, where)
    if content is None or isinstance(content, str):
        return message
    # Templates read only the first part of a system message.
    if takes_parts and message["role"] != "system":
        return {**message, "content": [{"type": "text", "text": text} for text in texts]}
    joined = "".join(texts)
    return {**message, "content": [{"type": "text", "text": joined}] if takes_parts else joined}


def _mark_end(message: dict[str, Any], mark: str) -> None:
    """Put a mark at the end of a message's text.

    Raises:
        UsageError: it has none.
    """
    content = message.get("content")
    if isinstance(content, list) and content:
        content[-1]["text"] += mark
    elif isinstance(content, str) and content:
        message["content"] = content + mark
    else:
        raise UsageError("continue_final_message: the last message has no text, expected the beginning of an answer.")


def _part_text(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"]
    raise UsageError(
        f"{where}: a content part is of type {kind!r}, expected {{'type': 'text', 'text': ...}}. "
        "This model reads text only; leave images and audio out."
    )


def _loops_over_content(template: nodes.Template) -> bool:
    """Whether a template goes through the parts of a message's content."""
    for loop in template.find_all(nodes.For):
        for access in (loop.iter, *loop.iter.find_all((nodes.Getitem, nodes.Getattr))):
            if isinstance(access, nodes.Getattr) and access.attr == "content":
                return True
            if isinstance(access, nodes.Getitem) and access.arg == nodes.Const("content"):
                return True
    return False


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """`tojson` as transformers has it: no HTML escapes, and text left readable."""
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    # Private-use characters stay what they are: they may stand for hidden ones (see `MessageGuard`).
    return _PRIVATE_USE_ESCAPE.sub(lambda match: chr(int(match.group(1), 16)), text) if ensure_ascii else text


def _strftime_now(format_text: str) -> str:
    """The present local time in the given format."""
    return datetime.datetime.now().strftime(format_text)
