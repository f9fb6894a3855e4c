"""GET /openapi.json agrees with the routes and the request models."""

import json

from gemcut.serve.app import ROUTES
from gemcut.serve.openapi import document
from gemcut.serve.requests import REFUSED, ChatRequest, CompletionRequest


def references(value):
    if isinstance(value, dict):
        yield from [value["$ref"]] if "$ref" in value else []
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from references(entry)


def test_paths_are_routes():
    routes = {(route.path.replace(":path", ""), method.lower()) for route in ROUTES for method in route.methods}
    for path, operations in document()["paths"].items():
        for method in operations:
            assert (path, method) in routes


def test_references_lead_somewhere():
    schemas = document()["components"]["schemas"]
    for reference in references(document()):
        assert reference.removeprefix("#/components/schemas/") in schemas
    assert set(schemas["ChatRequest"]["properties"]) == set(ChatRequest.model_fields)
    assert schemas["ChatRequest"]["required"] == ["messages"]
    assert schemas["JsonSchema"]["properties"].keys() == {"name", "description", "schema", "strict"}


def test_it_is_json():
    assert json.loads(json.dumps(document()))["openapi"].startswith("3.1")


def test_no_field_is_both_known_and_refused():
    assert not set(REFUSED) & (set(ChatRequest.model_fields) | set(CompletionRequest.model_fields))
