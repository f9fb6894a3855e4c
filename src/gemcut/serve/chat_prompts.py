"""From a conversation to the model's prompt."""

from __future__ import annotations

from typing import Any

from gemcut.errors import TemplateError
from gemcut.serve.errors import RequestError
from gemcut.serve.requests import ChatRequest, TokenizeRequest
from gemcut.serve.served_models import ServedModel
from gemcut.serve.tool_use import ToolUse

_FIELDS = ("messages", "tools", "add_generation_prompt", "continue_final_message")


def chat_prompt(model: ServedModel, asked: ChatRequest | TokenizeRequest, tool_use: ToolUse) -> list[int]:
    """Token ids of a conversation, by the model's chat template.

    Raises:
        TemplateError: the model has no template, or it refuses the conversation.
        RequestError: what is asked does not go together.
    """
    template = model.text_model.template
    if template is None:
        raise TemplateError(f"{model.name}: the model has no chat template. Use /v1/completions.")
    variables = asked.chat_template_kwargs or {}
    if taken := [name for name in _FIELDS if name in variables]:
        param = f"chat_template_kwargs.{taken[0]}"
        raise RequestError(f"{param}: it is a field of the request itself. Give it there.", param=param)
    if "self" in variables:
        param = "chat_template_kwargs.self"
        raise RequestError(f"{param}: no template can be given this name. Leave it out.", param=param)
    continues = bool(asked.continue_final_message)
    begins = not continues if asked.add_generation_prompt is None else asked.add_generation_prompt
    if continues and begins:
        raise RequestError(
            "continue_final_message: it goes with add_generation_prompt false. Leave one of them out.",
            param="continue_final_message",
        )
    sent = [_template_message(message.model_dump(exclude_unset=True)) for message in asked.messages or ()]
    messages, tools = tool_use.prompt(sent)
    return template.encode(
        messages, tools=tools, add_generation_prompt=begins, continue_final_message=continues, **variables
    )


def _template_message(message: dict[str, Any]) -> dict[str, Any]:
    """A message in the words of chat templates, which know no developers."""
    if message["role"] == "developer":
        message["role"] = "system"
    if message.get("content") is None:
        message["content"] = ""
    return message
