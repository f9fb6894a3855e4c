"""What those who run the server ask: is it alive, does it take work, what does it measure; and what it offers."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from gemcut.serve.errors import RequestError, unavailable
from gemcut.serve.json_response import JsonResponse
from gemcut.serve.server import server_of


async def health(request: Request) -> JsonResponse:
    """200 as long as the process can do its work, also while it loads or drains."""
    if server_of(request).engine.failure is not None:
        raise RequestError("The engine has stopped. Start the server again.", status=503, code="engine_stopped")
    return JsonResponse({"status": "ok"})


async def ready(request: Request) -> JsonResponse:
    """200 while new work is taken."""
    server = server_of(request)
    server.opened()
    if not server.is_ready:
        raise unavailable("The server takes no new work.", "draining" if server.is_draining else "engine_stopped", 1)
    return JsonResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """Counts and times, in Prometheus' text format."""
    return Response(server_of(request).metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})


async def stored_completions(request: Request) -> JsonResponse:
    """OpenAI keeps answers that were asked for with `store`; here there are none.

    Raises:
        RequestError: always.
    """
    raise RequestError("This server stores no answers. Keep them yourself.", code="unsupported_parameter")


async def list_models(request: Request) -> JsonResponse:
    """The models that answer here."""
    return JsonResponse({"object": "list", "data": [model.card() for model in server_of(request).opened()]})


async def show_model(request: Request) -> JsonResponse:
    """One of them."""
    return JsonResponse(server_of(request).opened().find(request.path_params["name"]).card())
