"""POST /v1/chat/completions."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request

from gemcut.generate.scheduler import Update
from gemcut.generate.sequence import Sequence as TextSequence
from gemcut.serve.answers import Answer
from gemcut.serve.asked_constraints import constraint_maker
from gemcut.serve.asked_texts import new_texts
from gemcut.serve.bodies import read_json
from gemcut.serve.chat_prompts import chat_prompt
from gemcut.serve.requests import ChatRequest, parse
from gemcut.serve.responses import chat_logprobs
from gemcut.serve.served_models import ServedModel
from gemcut.serve.server import server_of
from gemcut.serve.shown_text import ShownText
from gemcut.serve.tool_use import ToolUse, tool_use_of
from gemcut.text.tool_calls import ToolCallDelta, gather


async def chat_completions(request: Request) -> Any:
    """The model's answer to a conversation."""
    server = server_of(request)
    models = server.begin_work(request)
    asked = parse(ChatRequest, await read_json(request, server.settings.max_body_bytes))
    server.note_ignored(request, asked)
    model = models.find(asked.model)
    tool_use = tool_use_of(asked.tools, asked.tool_choice, asked.parallel_tool_calls, model.tool_format)
    texts = await asyncio.to_thread(_texts, model, asked, tool_use, server.settings.max_seconds)
    generation = await server.submit(request, model, texts)
    choices = [ChatChoice(sequence, asked, model, tool_use) for sequence in texts]
    return await Answer("chat.completion", server, request, asked, model, choices, generation).respond()


def _texts(model: ServedModel, asked: ChatRequest, tool_use: ToolUse, max_seconds: float | None) -> list[TextSequence]:
    return new_texts(
        model,
        asked,
        [chat_prompt(model, asked, tool_use)],
        field="messages",
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        num_top_logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
        max_seconds=max_seconds,
        new_constraint=constraint_maker(asked, model.text_model.constraints, tool_use),
    )


class ChatChoice:
    """One text of a chat answer.

    Args:
        sequence: The text.
        asked: The request.
        model: Answers.
        tool_use: What it may do with tools.
    """

    def __init__(self, sequence: TextSequence, asked: ChatRequest, model: ServedModel, tool_use: ToolUse) -> None:
        self._sequence, self._asked, self._tokenizer = sequence, asked, model.text_model.tokenizer
        self._parser = tool_use.parser()
        shows_special = asked.skip_special_tokens is False or (self._parser and tool_use.format.shows_special)
        self._text = ShownText(sequence, self._tokenizer, asked, shows_special=bool(shows_special))
        self._found: list[str | ToolCallDelta] = []
        self._has_begun = False

    def push(self, update: Update) -> list[dict[str, Any]]:
        """See `answers.Choice`: the role first, then content and calls, at last the reason to end."""
        parts: list[dict[str, Any]] = []
        if not self._has_begun:
            self._has_begun = True
            parts.append(_part({"role": "assistant", "content": ""}))
        new = self._read(self._text.push(update), update.finished)
        self._found += new
        parts += [_part({"content": each} if isinstance(each, str) else _call_delta(each)) for each in new]
        details = self._details(update.logprobs, update.token_ids)
        if details:
            if not new:
                parts.append(_part({"content": ""}))
            parts[-1] |= details
        if update.finished:
            parts.append(_part({}) | self._ending())
        return parts

    def whole(self) -> dict[str, Any]:
        """See `answers.Choice`."""
        content, calls = gather(self._found)
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if calls:
            message["content"] = content or None
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ]
        details = self._details(self._sequence.logprobs, self._sequence.token_ids)
        return {"message": message, "logprobs": None} | details | self._ending()

    def _read(self, text: str, is_last: bool) -> list[str | ToolCallDelta]:
        """Content and calls that are certain now."""
        if self._parser is None:
            return [text] if text else []
        return self._parser.push(text) + (self._parser.finish() if is_last else [])

    def _details(self, logprobs: list[dict[str, Any]] | None, token_ids: list[int]) -> dict[str, Any]:
        """What was asked for beside the text."""
        details: dict[str, Any] = {}
        if logprobs:
            details["logprobs"] = chat_logprobs(logprobs, self._tokenizer)
        if self._asked.return_token_ids and token_ids:
            details["token_ids"] = token_ids
        return details

    def _ending(self) -> dict[str, Any]:
        has_calls = any(isinstance(each, ToolCallDelta) for each in self._found)
        reason = self._sequence.finish_reason
        return {
            "finish_reason": "tool_calls" if has_calls and reason == "stop" else reason,
            "stop_reason": self._text.stop_reason,
        }


def _part(delta: dict[str, Any]) -> dict[str, Any]:
    return {"delta": delta, "logprobs": None, "finish_reason": None}


def _call_delta(part: ToolCallDelta) -> dict[str, Any]:
    """A part of a call in a stream: its name and id come first, then its arguments."""
    call: dict[str, Any] = {"index": part.index}
    if part.name is not None:
        call |= {"id": part.id, "type": "function"}
    function = {"name": part.name} if part.name is not None else {}
    return {"tool_calls": [{**call, "function": {**function, "arguments": part.arguments}}]}
