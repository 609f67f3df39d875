"""Routes that read a form: only of what says that it is one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from orders.core.multipart import NoFormError, media_type

_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")


class FormRoute(APIRoute):
    """Refuses what is no form with 415, where FastAPI would take it for an empty one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()

        async def answer_form(request: Request) -> Response:
            # Before FastAPI reads the body, which it does before any dependency is asked.
            if media_type(request.headers.get("content-type", "")) not in _FORMS:
                raise NoFormError(f"the body is no form; send it as {_FORMS[0]}")
            return await answer(request)

        return answer_form
