"""What can go wrong in the domain, and how HTTP tells it: problem+json (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


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

    async def database_away(_: Request, __: Exception) -> JSONResponse:
        answer = _answer(HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer")
        answer.headers["retry-after"] = "2"
        return answer

    app.add_exception_handler(DomainError, domain)
    for away in (OperationalError, InterfaceError, PoolTimeoutError, OSError):
        app.add_exception_handler(away, database_away)


def _answer(status: HTTPStatus, detail: str) -> JSONResponse:
    problem = Problem(title=status.phrase, status=status, detail=detail)
    return JSONResponse(problem.model_dump(), status, media_type="application/problem+json")
