"""The ASGI application: which path leads where."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp

from gemcut.errors import GemcutError
from gemcut.serve import operations, tokenization
from gemcut.serve.chat_completions import chat_completions
from gemcut.serve.completions import completions
from gemcut.serve.errors import handle_error
from gemcut.serve.gate import Gate, KeyCheck
from gemcut.serve.openapi import openapi
from gemcut.serve.page import page_routes
from gemcut.serve.server import Server, handle_gone
from gemcut.serve.streaming import ClientGoneError

ROUTES = [
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/chat/completions", operations.stored_completions),
    Route("/v1/chat/completions/{rest:path}", operations.stored_completions, methods=["GET", "POST", "DELETE"]),
    Route("/v1/completions", completions, methods=["POST"]),
    Route("/v1/models", operations.list_models),
    Route("/v1/models/{name:path}", operations.show_model),
    Route("/tokenize", tokenization.tokenize, methods=["POST"]),
    Route("/detokenize", tokenization.detokenize, methods=["POST"]),
    Route("/health", operations.health),
    Route("/ready", operations.ready),
    Route("/metrics", operations.metrics),
    Route("/openapi.json", openapi),
    *page_routes(),
]


def create_app(server: Server) -> ASGIApp:
    """The application of one server."""
    settings = server.settings
    layers = [Middleware(KeyCheck, settings)]
    if settings.allow_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.allow_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
        layers.insert(0, cors)
    app = Starlette(
        routes=ROUTES,
        middleware=layers,
        exception_handlers={
            Exception: handle_error,  # then it is raised once more, and `Gate` logs it
            HTTPException: handle_error,
            GemcutError: handle_error,
            ClientGoneError: handle_gone,
            ClientDisconnect: handle_gone,
        },
    )
    app.router.redirect_slashes = False
    app.state.server = server
    return Gate(app, server)
