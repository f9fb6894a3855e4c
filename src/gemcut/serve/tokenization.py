"""POST /tokenize and /detokenize."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request

from gemcut.errors import UsageError
from gemcut.serve.bodies import read_json
from gemcut.serve.chat_prompts import chat_prompt
from gemcut.serve.json_response import JsonResponse
from gemcut.serve.requests import DetokenizeRequest, TokenizeRequest, parse
from gemcut.serve.served_models import ServedModel
from gemcut.serve.server import server_of
from gemcut.serve.tool_use import tool_use_of


async def tokenize(request: Request) -> JsonResponse:
    """Token ids of a text or of a conversation."""
    server = server_of(request)
    asked = parse(TokenizeRequest, await read_json(request, server.settings.max_body_bytes))
    model = server.opened().find(asked.model)
    token_ids = await asyncio.to_thread(_token_ids, model, asked)
    lm = model.text_model
    answer: dict[str, Any] = {"count": len(token_ids), "max_model_len": lm.context, "tokens": token_ids}
    if asked.return_token_strs:
        answer["token_strs"] = [lm.tokenizer.piece_of(token_id) for token_id in token_ids]
    return JsonResponse(answer)


async def detokenize(request: Request) -> JsonResponse:
    """The text of token ids, control tokens included."""
    server = server_of(request)
    asked = parse(DetokenizeRequest, await read_json(request, server.settings.max_body_bytes))
    tokenizer = server.opened().find(asked.model).text_model.tokenizer
    for token_id in asked.tokens:
        if token_id >= tokenizer.vocab_size:
            raise UsageError(f"tokens: {token_id} is not a token id, expected 0 to {tokenizer.vocab_size - 1}.")
    text = await asyncio.to_thread(tokenizer.decode, asked.tokens, skip_special=False)
    return JsonResponse({"prompt": text})


def _token_ids(model: ServedModel, asked: TokenizeRequest) -> list[int]:
    if asked.prompt is not None:
        return model.text_model.tokenizer.encode(asked.prompt, add_bos=asked.add_special_tokens is not False)
    return chat_prompt(model, asked, tool_use_of(asked.tools, None, None, model.tool_format))
