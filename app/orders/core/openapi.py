"""The OpenAPI document: which errors a route may answer with, all in the one schema `Problem`."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute

from orders.core.errors import Problem

_REF: Final = {"schema": {"$ref": "#/components/schemas/Problem"}}
_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_MEANINGS: Final = {
    400: "The body cannot be read.",
    401: "Nobody has signed in, or the credentials are not valid (any more).",
    403: "Who has signed in may not do this.",
    404: "What the request names does not exist.",
    409: "The request contradicts what is stored.",
    412: "If-Match names another version than the one of now.",
    413: "The body is larger than what is read here.",
    415: "The body is not of a content type that is read here.",
    422: "Parts of the request are malformed; `errors` says which and why.",
    428: "If-Match is missing.",
    429: "Too many; `Retry-After` says when to try again.",
    500: "The service has a fault.",
    503: "The service cannot answer now; `Retry-After` says when to try again.",
}
_API_KEY: Final[dict[str, Any]] = {
    "APIKeyHeader": {"type": "apiKey", "in": "header", "name": "X-API-Key"}
}

ETAG: Final[dict[str, Any]] = {
    "description": "The version, for If-Match.",
    "required": True,
    "schema": {"type": "string"},
}
LOCATION: Final[dict[str, Any]] = {
    "description": "Where to find it.",
    "required": True,
    "schema": {"type": "string"},
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare the errors a route decides for itself: ``responses=problems(404, 409)``.

    What any route may answer (400, 413, 415, 422, 429, 500, 503, and 401 where credentials are
    read) is declared by :func:`install`.
    """
    return {status: _described(status) for status in statuses}


def headers(status: int, **named: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Declare headers of a good answer: ``responses=headers(201, ETag=ETAG) | problems(409)``."""
    return {status: {"headers": named}}


def operation_id(route: APIRoute) -> str:
    """Name an operation after its function, so that generated clients read well."""
    return route.name


def install(app: FastAPI) -> None:
    """Complete the application's document: every error of every route, as problem+json."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = complete(generate())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way of extending it


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with every error of every operation as the schema ``Problem``."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem
    if "securitySchemes" in document["components"]:
        document["components"]["securitySchemes"] |= _API_KEY
    for operation in _operations(document):
        _let_in_api_keys(operation)
        responses = operation["responses"]
        if responses.get("422", {}).get("description") == "Validation Error":
            del responses["422"]  # FastAPI's own, which says less
        for status in _implied(operation):
            responses.setdefault(str(status), _described(status))
        for status, response in responses.items():
            if status.isdigit() and int(status) >= HTTPStatus.BAD_REQUEST:
                response["content"] = {"application/problem+json": _REF}
    return document


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document.get("paths", {}).values():
        for method, operation in path.items():
            if method in _METHODS:
                yield operation


def _let_in_api_keys(operation: dict[str, Any]) -> None:
    """Name the other way to say who asks, with the same scopes: one dependency reads both."""
    if security := operation.get("security"):
        (scopes,) = security[0].values()
        security.append(dict.fromkeys(_API_KEY, scopes))


def _implied(operation: dict[str, Any]) -> Iterator[int]:
    """List the errors that the shape of an operation makes possible."""
    yield from (429, 500, 503)
    if operation.get("security"):
        yield 401
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        yield from (400, 413, 415)
    if body or operation.get("parameters"):
        yield 422


def _described(status: int) -> dict[str, Any]:
    return {"description": _MEANINGS.get(status, HTTPStatus(status).phrase)}
