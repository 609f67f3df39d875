"""What can go wrong in the domain, and how HTTP tells it: problem+json (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from socket import gaierror

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

# Classes of SQLSTATE: connection, no such database, login, out of resources, not now, shutdown.
_AWAY = ("08", "3D", "28", "53", "55000", "57P")


class DomainError(Exception):
    """A request that the rules refuse; the text is for the client."""

    status = HTTPStatus.BAD_REQUEST


class NotFoundError(DomainError):
    """What the request names does not exist."""

    status = HTTPStatus.NOT_FOUND


class ConflictError(DomainError):
    """The request contradicts what is stored."""

    status = HTTPStatus.CONFLICT


class Problem(BaseModel):
    """The body of every error that the service itself decides."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


def install(app: FastAPI) -> None:
    """Answer domain errors, and a database that is away, with problem+json."""

    async def domain(_: Request, error: Exception) -> JSONResponse:
        status = error.status if isinstance(error, DomainError) else HTTPStatus.BAD_REQUEST
        return _answer(status, str(error))

    async def database(_: Request, error: Exception) -> JSONResponse:
        if isinstance(error, DBAPIError) and not _is_away(error):
            raise error
        answer = _answer(HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer")
        answer.headers["retry-after"] = "2"
        return answer

    app.add_exception_handler(DomainError, domain)
    # asyncpg lets the socket's own errors through when it cannot connect at all.
    for kind in (DBAPIError, PoolTimeoutError, ConnectionError, TimeoutError, gaierror):
        app.add_exception_handler(kind, database)


def _is_away(error: DBAPIError) -> bool:
    """Tell a server that takes no connection now from a statement that it refused."""
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith(_AWAY)


def _answer(status: HTTPStatus, detail: str) -> JSONResponse:
    problem = Problem(title=status.phrase, status=status, detail=detail)
    return JSONResponse(problem.model_dump(), status, media_type="application/problem+json")
