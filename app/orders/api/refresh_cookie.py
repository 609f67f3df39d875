"""The browser mode: the refresh token in a cookie that no script can read."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import Depends, Header, Request, Response

from orders.api.deps import Settings
from orders.core.csrf import is_own_page
from orders.core.errors import ForbiddenError

NAME: Final = "__Secure-refresh"
_PATH: Final = "/api/v1/auth"  # sent nowhere else


async def browser_mode(
    request: Request,
    settings: Settings,
    mode: Annotated[
        Literal["cookie"] | None,
        Header(
            alias="X-Refresh-Mode",
            description="`cookie` keeps the refresh token in a cookie, for pages of our own.",
        ),
    ] = None,
) -> bool:
    """Whether the client keeps its refresh token in the cookie.

    Raises:
        ForbiddenError: it does, and the request is not from a page of ours.
    """
    if mode is None:
        return False
    origin, host = request.headers.get("origin"), request.headers.get("host")
    if not is_own_page(origin, host, settings.browser_origins):
        raise ForbiddenError(
            "X-Refresh-Mode: cookie is for our own pages, and the Origin of this request is none; "
            "add it to APP_BROWSER_ORIGINS if it is"
        )
    return True


BrowserMode = Annotated[bool, Depends(browser_mode)]


def put(response: Response, refresh_token: str, seconds: int) -> None:
    """Give the cookie to the browser."""
    response.set_cookie(
        NAME,
        refresh_token,
        max_age=seconds,
        path=_PATH,
        secure=True,
        httponly=True,
        samesite="strict",
    )


def clear(response: Response) -> None:
    """Take the cookie from the browser."""
    response.delete_cookie(NAME, path=_PATH, secure=True, httponly=True, samesite="strict")
