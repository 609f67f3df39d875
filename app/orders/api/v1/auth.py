"""``/api/v1/auth``: signing in and out."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Cookie, Form, Response

from orders.api import refresh_cookie
from orders.api.deps import Auth, CurrentUser, Session, Sessions, Settings
from orders.api.forms import FormRoute
from orders.api.refresh_cookie import BrowserMode
from orders.core.errors import UnauthenticatedError
from orders.core.openapi import problems
from orders.core.settings import OrdersSettings
from orders.models import User
from orders.schemas.auth import LoginForm, RefreshTokenBody, TokenRead
from orders.schemas.user import UserCreate, UserRead
from orders.services import users
from orders.services.auth import Grant

router = APIRouter(prefix="/auth", tags=["auth"])
forms = APIRouter(route_class=FormRoute)

RefreshCookie = Annotated[
    str | None, Cookie(alias=refresh_cookie.NAME, max_length=100, include_in_schema=False)
]


@router.post(
    "/register",
    status_code=HTTPStatus.CREATED,
    response_model=UserRead,
    responses=problems(409),
    summary="Register",
)
async def register(wanted: UserCreate, auth: Auth) -> User:
    """Make a user with the role `customer`; sign in next."""
    return await auth.register(wanted)


@forms.post("/login", response_model=TokenRead, responses=problems(401, 403), summary="Sign in")
async def login(
    form: Annotated[LoginForm, Form()],
    auth: Auth,
    settings: Settings,
    browser: BrowserMode,
    response: Response,
    sessions: Sessions,
    background: BackgroundTasks,
) -> TokenRead:
    """Exchange e-mail and password for tokens (OAuth2's password grant)."""
    grant = await auth.login(form.username, form.password)
    background.add_task(users.note_login, sessions, grant.user_id)
    return _hand_over(grant, settings, response, browser=browser)


router.include_router(forms)


@router.post(
    "/refresh", response_model=TokenRead, responses=problems(401, 403), summary="Refresh the tokens"
)
async def refresh(
    auth: Auth,
    settings: Settings,
    browser: BrowserMode,
    response: Response,
    body: RefreshTokenBody | None = None,
    cookie: RefreshCookie = None,
) -> TokenRead:
    """Exchange a refresh token for new tokens; it is good for one use.

    Used a second time, it revokes all tokens that came from the same login: let no two tabs or
    threads refresh at once.
    """
    grant = await auth.refresh(_held(body, cookie, browser=browser))
    return _hand_over(grant, settings, response, browser=browser)


@router.post(
    "/logout",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems(401, 403),
    summary="Sign out here",
)
async def logout(
    auth: Auth,
    browser: BrowserMode,
    response: Response,
    body: RefreshTokenBody | None = None,
    cookie: RefreshCookie = None,
) -> None:
    """Revoke the refresh tokens of this login; its access token lives out its minutes."""
    await auth.logout(_held(body, cookie, browser=browser))
    if browser:
        refresh_cookie.clear(response)


@router.post(
    "/logout-everywhere",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems(403),
    summary="Sign out everywhere",
)
async def logout_everywhere(user: CurrentUser, auth: Auth) -> None:
    """Refuse all tokens that the user holds anywhere, access tokens too, at once."""
    await auth.logout_everywhere(user)


@router.get("/me", response_model=UserRead, responses=problems(403), summary="Who am I?")
async def me(user: CurrentUser, session: Session) -> User:
    """Return the user who has signed in."""
    return await users.get(session, user, user.user_id)


def _held(body: RefreshTokenBody | None, cookie: str | None, *, browser: bool) -> str:
    if browser:
        if not cookie:
            raise UnauthenticatedError("there is no refresh cookie; sign in")
        return cookie
    if body is None:
        raise UnauthenticatedError("send the refresh_token in a JSON body")
    return body.refresh_token


def _hand_over(
    grant: Grant, settings: OrdersSettings, response: Response, *, browser: bool
) -> TokenRead:
    response.headers["cache-control"] = "no-store"
    if browser:
        refresh_cookie.put(response, grant.refresh_token, settings.refresh_token_seconds)
    return TokenRead(
        access_token=grant.access_token,
        expires_in=settings.access_token_seconds,
        refresh_token=None if browser else grant.refresh_token,
    )
