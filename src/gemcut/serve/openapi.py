"""GET /openapi.json: the interface in OpenAPI's form, made from the request models."""

from __future__ import annotations

import functools
from typing import Any, Literal

from pydantic.json_schema import models_json_schema
from starlette.requests import Request

import gemcut
from gemcut.serve.fields import Strict
from gemcut.serve.json_response import JsonResponse
from gemcut.serve.requests import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest

_BODIES: dict[str, tuple[type[Strict], str]] = {
    "/v1/chat/completions": (ChatRequest, "The model's answer to a conversation."),
    "/v1/completions": (CompletionRequest, "What follows one prompt or several."),
    "/tokenize": (TokenizeRequest, "Token ids of a text or of a conversation."),
    "/detokenize": (DetokenizeRequest, "The text of token ids."),
}
_READS = {
    "/v1/models": "The models that answer here.",
    "/health": "Whether the process can do its work.",
    "/ready": "Whether new work is taken.",
}
_REFUSALS = {
    "400": "The request is not one.",
    "401": "No valid key.",
    "403": "Another host or origin.",
    "404": "No such model.",
    "408": "The body did not arrive.",
    "413": "The body is too long.",
    "429": "Too many texts wait.",
    "503": "The server loads or drains.",
    "504": "It took longer than the server allows.",
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


async def openapi(request: Request) -> JsonResponse:
    """The document."""
    return JsonResponse(document())


@functools.cache
def document() -> dict[str, Any]:
    """The interface in OpenAPI 3.1."""
    models: list[tuple[type[Strict], Literal["validation"]]] = [(model, "validation") for model, _ in _BODIES.values()]
    _, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")
    paths: dict[str, Any] = {}
    for path, (model, text) in _BODIES.items():
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
        paths[path] = {
            "post": {
                "summary": text,
                "requestBody": {"required": True, "content": content},
                "responses": _responses("application/json", "text/event-stream"),
            }
        }
    for path, text in _READS.items():
        paths[path] = {"get": {"summary": text, "responses": _responses("application/json")}}
    paths["/v1/models/{name}"] = {
        "get": {
            "summary": "One of them.",
            "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
            "responses": _responses("application/json"),
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gemcut", "version": gemcut.__version__},
        "paths": paths,
        "components": {
            "schemas": {**schemas["$defs"], "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _responses(*media_types: str) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    answers = {"200": {"description": "Done.", "content": {media_type: {} for media_type in media_types}}}
    return answers | {status: {"description": text, "content": error} for status, text in _REFUSALS.items()}
