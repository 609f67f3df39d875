"""What can go wrong, and how HTTP tells it: problem+json (RFC 9457), for every error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPMethod, HTTPStatus
from socket import gaierror
from typing import Any, ClassVar, Final

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

# Classes of SQLSTATE: connection, no such database, login, out of resources, not now, shutdown.
_AWAY: Final = ("08", "3D", "28", "53", "55000", "57P")
# asyncpg lets the socket's own errors through when it cannot connect, or not in time.
_UNREACHABLE: Final = (PoolTimeoutError, ConnectionError, TimeoutError, gaierror)
# Unique, foreign key, exclusion, check. NOT NULL is left out: no client can mean that.
_CONFLICTS: Final = ("23505", "23503", "23P01", "23514")
_MISSING: Final = "23503"
_OF_A_USER: Final = "_users"
"""How a foreign key's name ends that leads to a user: only to who asks, in this service."""
_IN_EACH_OTHERS_WAY: Final = ("40001", "40P01")  # serialization failure, deadlock
_NO_HEADERS: Final[Mapping[str, str]] = {}
_RETRY_AFTER: Final[Mapping[str, str]] = {"Retry-After": "2"}
_BEARER: Final[Mapping[str, str]] = {"WWW-Authenticate": "Bearer"}
_BEARER_INVALID: Final[Mapping[str, str]] = {"WWW-Authenticate": 'Bearer error="invalid_token"'}

_MOST_FIELDS: Final = 20
_LONGEST_NAME: Final = 100


class DomainError(Exception):
    """A request that the rules refuse; the text is for the client."""

    status: ClassVar[HTTPStatus] = HTTPStatus.BAD_REQUEST
    headers: Mapping[str, str] = _NO_HEADERS


class UnauthenticatedError(DomainError):
    """Nobody has said who asks."""

    status = HTTPStatus.UNAUTHORIZED
    headers = _BEARER


class InvalidTokenError(UnauthenticatedError):
    """Who asks was said with something that is not valid, or not any more."""

    headers = _BEARER_INVALID


class ForbiddenError(DomainError):
    """Who asks is known, and may not do this."""

    status = HTTPStatus.FORBIDDEN


class NotFoundError(DomainError):
    """What the request names does not exist."""

    status = HTTPStatus.NOT_FOUND


class ConflictError(DomainError):
    """The request contradicts what is stored."""

    status = HTTPStatus.CONFLICT


class PreconditionFailedError(DomainError):
    """The change was meant for a version that is no longer the one of now."""

    status = HTTPStatus.PRECONDITION_FAILED


class PreconditionRequiredError(DomainError):
    """The change does not say for which version it is meant."""

    status = HTTPStatus.PRECONDITION_REQUIRED


class UnprocessableError(DomainError):
    """One part of the request cannot be meant so, though its form is right."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, field: str, reason: str, code: str) -> None:
        super().__init__(reason)
        self.problem = FieldProblem(field=field, reason=reason, code=code)


class TooManyError(DomainError):
    """Who asks has as much as one may have."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    headers = _RETRY_AFTER


class TooOftenError(TooManyError):
    """Who asks has asked too often.

    Args:
        detail: what, and how often one may.
        seconds: until one may again.
    """

    def __init__(self, detail: str, seconds: int) -> None:
        super().__init__(f"{detail}; try again in {seconds} s")
        self.headers = {"Retry-After": str(seconds)}


class BusyError(DomainError):
    """The service could, but not now."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers = _RETRY_AFTER


class FieldProblem(BaseModel):
    """One part of a request that is not as it should be; its value is not repeated."""

    field: str = Field(examples=["body.lines.0.quantity"])
    reason: str = Field(examples=["Input should be less than or equal to 100"])
    code: str = Field(examples=["less_than_equal"], description="The reason, for a program.")


class Problem(BaseModel):
    """The body of every error."""

    type: str = "about:blank"
    title: str = Field(examples=["Conflict"])
    status: int = Field(examples=[409])
    detail: str = Field(examples=["another product has this sku"])
    errors: list[FieldProblem] | None = Field(
        None, description="Only where parts of the request are malformed."
    )


class ProblemResponse(Response):
    """A problem, as HTTP carries it."""

    media_type = "application/problem+json"

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        problem = Problem(
            title=HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            errors=list(errors) or None,
        )
        super().__init__(problem.model_dump_json(exclude_none=True), status, headers)


def is_away(error: Exception) -> bool:
    """Tell whether an error of a session is that its database does not answer now."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or _sqlstate(error).startswith(_AWAY)
    return isinstance(error, _UNREACHABLE)


def install(app: FastAPI, conflicts: Mapping[str, str]) -> None:
    """Answer every error with a problem.

    Args:
        app: the application.
        conflicts: what to say when a constraint of the database, by its name, refuses a request.
    """

    async def integrity(_: Request, error: Exception) -> Response:
        assert isinstance(error, IntegrityError)  # noqa: S101 - as it was registered
        if _sqlstate(error) not in _CONFLICTS:
            raise error  # on to where faults of our own are logged and answered
        name = _constraint(error)
        if _sqlstate(error) == _MISSING and name.endswith(_OF_A_USER):
            return await _domain(_, InvalidTokenError("your user was deleted at this moment"))
        detail = conflicts.get(name, f"it contradicts what is stored (constraint {name})")
        return ProblemResponse(HTTPStatus.CONFLICT, detail)

    app.add_exception_handler(DomainError, _domain)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(IntegrityError, integrity)
    app.add_exception_handler(DBAPIError, _database)
    for kind in _UNREACHABLE:
        app.add_exception_handler(kind, _away)
    app.add_exception_handler(Exception, _failed)
    app.router.default = _or_nothing(app.router.default)


async def _domain(_: Request, error: Exception) -> Response:
    assert isinstance(error, DomainError)  # noqa: S101
    errors = [error.problem] if isinstance(error, UnprocessableError) else []
    return ProblemResponse(error.status, str(error), errors=errors, headers=error.headers)


async def _validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return explain_validation(error.errors(), error.body)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    detail, headers = str(error.detail), error.headers
    if error.status_code == HTTPStatus.BAD_REQUEST and error.__cause__ is not None:
        detail = _unreadable(error.__cause__)
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": ", ".join(_methods(request))}
    return ProblemResponse(error.status_code, detail, headers=headers)


def _methods(request: Request) -> Iterator[str]:
    """List the methods of all routes of the path; Starlette names those of the first alone."""
    routes = request.app.routes
    for method in HTTPMethod:
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in routes):
            yield method


def _or_nothing(default: ASGIApp) -> ASGIApp:
    """Answer a WebSocket that no route takes with 404; Starlette's bare 403 says less."""

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            refusal = ProblemResponse(HTTPStatus.NOT_FOUND, "no WebSocket is served here")
            await WebSocket(scope, receive, send).send_denial_response(refusal)
        else:
            await default(scope, receive, send)

    return nothing


async def _database(_: Request, error: Exception) -> Response:
    assert isinstance(error, DBAPIError)  # noqa: S101
    if _sqlstate(error) in _IN_EACH_OTHERS_WAY:
        detail = "two requests were in each other's way, and this one gave way; try again"
        return ProblemResponse(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=_RETRY_AFTER)
    if is_away(error):
        return await _away(_, error)
    raise error


async def _away(_: Request, __: Exception) -> Response:
    detail = "the database does not answer"
    return ProblemResponse(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=_RETRY_AFTER)


async def _failed(_: Request, __: Exception) -> Response:
    detail = "the service has a fault; its log knows more under the X-Request-ID of this answer"
    return ProblemResponse(HTTPStatus.INTERNAL_SERVER_ERROR, detail)


def explain_validation(errors: Sequence[Mapping[str, Any]], body: object) -> ProblemResponse:
    """Say which parts of a request are malformed and why, and repeat none of their values.

    Args:
        errors: as pydantic lists them.
        body: as FastAPI has read it; bytes, if the content type was not one it can read.
    """
    for error in errors:
        if error["type"] == "json_invalid":
            reason = f"the body is no JSON: {error['ctx']['error']} at character {error['loc'][1]}"
            return ProblemResponse(HTTPStatus.BAD_REQUEST, reason)
        if isinstance(body, bytes) and tuple(error["loc"]) == ("body",):
            reason = "the body's content type is not one that is read here; send application/json"
            return ProblemResponse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, reason)
    fields = [
        FieldProblem(
            field=".".join(str(part)[:_LONGEST_NAME] for part in error["loc"]),
            reason=error["msg"].removeprefix("Value error, "),
            code=error["type"],
        )
        for error in errors[:_MOST_FIELDS]
    ]
    told = "" if len(errors) <= _MOST_FIELDS else f"; these are the first {_MOST_FIELDS}"
    detail = f"{len(errors)} part(s) of the request are malformed{told}"
    return ProblemResponse(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=fields)


def _constraint(error: IntegrityError) -> str:
    # SQLAlchemy's adapter keeps asyncpg's own error, which knows the name, as the cause.
    return getattr(error.orig.__cause__, "constraint_name", None) or "" if error.orig else ""


def _sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _unreadable(cause: BaseException) -> str:
    match cause:
        case RecursionError():
            return "the body cannot be read: it is nested too deeply"
        case UnicodeDecodeError():
            return "the body cannot be read: it is not UTF-8"
        case _:
            return "the body cannot be read: it is malformed, or a number in it has too many digits"
