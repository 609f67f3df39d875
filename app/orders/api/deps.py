"""What the routers ask for.

A route that names none of `CurrentUser`, `require_role(...)` and `allow(...)` is open to everybody.
An API key opens only what asks for one of its scopes with `allow(...)`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Query, Request, Security
from fastapi.requests import HTTPConnection
from fastapi.security import OAuth2PasswordBearer, SecurityScopes
from fastapi.security.base import SecurityBase
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Principal, Role, Scope
from orders.core.database import Sessions as SessionFactory
from orders.core.errors import (
    ForbiddenError,
    PreconditionRequiredError,
    UnauthenticatedError,
)
from orders.core.exports import Exports as ExportPool
from orders.core.passwords import Passwords as PasswordHasher
from orders.core.settings import OrdersSettings
from orders.core.tokens import Tokens as AccessTokens
from orders.outbound.payment_provider import PaymentProvider
from orders.repositories.lookups import Lookups as KeyLookups
from orders.services import credentials
from orders.services.auth import Auth as AuthService
from orders.services.catalogue import Catalogue as CatalogueService
from orders.services.catalogue import ShopWindow
from orders.services.idempotency import Once
from orders.services.own_password import OwnPassword as OwnPasswordService
from orders.storage.seam import NotConfiguredError, Storage
from orders.stream.hub import Hub as StreamHub
from tidegate import bind_user

_READING: Final = frozenset({"GET", "HEAD"})

_BEARER: Final = OAuth2PasswordBearer(
    tokenUrl="/api/v1/auth/login", refreshUrl="/api/v1/auth/refresh", auto_error=False
)


def _state(name: str) -> Any:  # noqa: ANN401 - as FastAPI's Depends
    """Depend on what `main.py` has put into the application's state."""

    async def get(connection: HTTPConnection) -> Any:  # noqa: ANN401
        return getattr(connection.app.state, name)

    return Depends(get)


async def get_session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    """One session for the request; its connection is back in the pool before the answer goes."""
    state = connection.app.state
    reads = connection.scope["method"] in _READING
    async with state.readers() if reads else state.sessions() as session:
        yield session


async def get_storage(connection: HTTPConnection) -> Storage:
    """Where files are kept."""
    storage: Storage | None = connection.app.state.storage
    if storage is None:
        raise NotConfiguredError(
            "no files are kept here: set APP_FILES_DIRECTORY or APP_FILES_BUCKET"
        )
    return storage


Session = Annotated[AsyncSession, Depends(get_session, scope="function")]
Sessions = Annotated[SessionFactory, _state("sessions")]
Settings = Annotated[OrdersSettings, _state("settings")]
Passwords = Annotated[PasswordHasher, _state("passwords")]
Lookups = Annotated[KeyLookups, _state("lookups")]
Tokens = Annotated[AccessTokens, _state("tokens")]
Hub = Annotated[StreamHub, _state("hub")]
Payments = Annotated[PaymentProvider | None, _state("payments")]
Files = Annotated[Storage, Depends(get_storage)]
Exports = Annotated[ExportPool, _state("exports")]


async def get_auth(connection: HTTPConnection, session: Session) -> AuthService:
    """Signing in, for this request."""
    state = connection.app.state
    return AuthService(
        session, state.passwords, state.tokens, state.settings.refresh_token_lifetime
    )


Auth = Annotated[AuthService, Depends(get_auth)]


async def get_own_password(connection: HTTPConnection, session: Session) -> OwnPasswordService:
    """What asks who has signed in for their password once more."""
    state = connection.app.state
    return OwnPasswordService(
        session, state.passwords, state.counts, state.settings.login_rate_limit
    )


OwnPassword = Annotated[OwnPasswordService, Depends(get_own_password)]


class _WhoAsks(SecurityBase):
    """Who asks, or ``None``: tests override this one to be anybody.

    Credentials that are not valid are refused, not passed over: a client whose token has expired
    is to refresh it, not to become a stranger.

    One dependency, since every request comes by here. OpenAPI is told of the bearer token by it,
    and of the API key by :mod:`orders.core.openapi`.
    """

    model = _BEARER.model
    scheme_name = _BEARER.scheme_name

    async def __call__(self, request: Request) -> Principal | None:
        state, headers = request.app.state, request.headers
        if bearer := await _BEARER(request):
            principal = await credentials.by_access_token(state.lookups, state.tokens, bearer)
        elif api_key := headers.get("x-api-key"):
            principal = await credentials.by_api_key(state.lookups, api_key)
        else:
            return None
        bind_user(str(principal.user_id))
        return principal


optional_user: Final = _WhoAsks()
OptionalUser = Annotated[Principal | None, Depends(optional_user)]


async def get_catalogue(
    connection: HTTPConnection, session: Session, principal: OptionalUser
) -> CatalogueService:
    """The catalogue: for strangers from cache and replica, else from the primary."""
    state = connection.app.state
    window = None if principal else ShopWindow(state.sessions, state.replica, state.cache)
    return CatalogueService(session, window)


Catalogue = Annotated[CatalogueService, Depends(get_catalogue)]


async def current_user(principal: OptionalUser) -> Principal:
    """The user who has signed in; an API key will not do."""
    if principal is None:
        raise UnauthenticatedError("sign in first: send Authorization: Bearer with an access token")
    if principal.api_key_id:
        raise ForbiddenError("an API key cannot do this; sign in as a user")
    return principal


CurrentUser = Annotated[Principal, Depends(current_user)]


def require_role(*roles: Role) -> Callable[..., Coroutine[Any, Any, Principal]]:
    """Return the dependency that lets in users of these roles only."""

    async def check(principal: CurrentUser) -> Principal:
        return _of_role(principal, roles)

    return check


Admin = Annotated[Principal, Depends(require_role(Role.ADMIN))]


async def scoped_user(principal: OptionalUser, wanted: SecurityScopes) -> Principal:
    """Who asks: a user who has signed in, or an API key that has the scopes."""
    if principal is None:
        raise UnauthenticatedError(
            "sign in first: send Authorization: Bearer with an access token, or X-API-Key"
        )
    missing = [scope for scope in wanted.scopes if scope not in principal.scopes]
    if missing:
        raise ForbiddenError(f"the API key lacks the scope {', '.join(missing)}")
    return principal


def allow(*scopes: Scope) -> Any:  # noqa: ANN401 - as FastAPI's Security
    """Let in users, and API keys that have all of these scopes.

    ``reader: Annotated[Principal, allow(Scope.ORDERS_READ)]``
    """
    return Security(scoped_user, scopes=list(scopes))


OrdersReader = Annotated[Principal, allow(Scope.ORDERS_READ)]
OrdersWriter = Annotated[Principal, allow(Scope.ORDERS_WRITE)]
FilesReader = Annotated[Principal, allow(Scope.FILES_READ)]
FilesWriter = Annotated[Principal, allow(Scope.FILES_WRITE)]


async def catalogue_admin(
    principal: Annotated[Principal, allow(Scope.PRODUCTS_WRITE)],
) -> Principal:
    """An admin who has signed in, or a key of theirs that has the scope."""
    return _of_role(principal, (Role.ADMIN,))


CatalogueAdmin = Annotated[Principal, Depends(catalogue_admin)]


async def once(
    principal: OrdersWriter,
    settings: Settings,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            pattern=r"^[\x21-\x7e]+$",
            description="Of your choice, for example a UUID: a request that is sent again with it "
            "is answered as it was the first time.",
        ),
    ] = None,
) -> Once | None:
    """What makes the request count once, if the client asks for that."""
    return Once(principal.user_id, key, settings.idempotency_lifetime) if key else None


CountsOnce = Annotated[Once | None, Depends(once)]


async def if_match(
    versions: Annotated[
        str | None,
        Header(
            alias="If-Match",
            max_length=1000,
            description="The ETag of what you have seen; `*` if it does not matter.",
        ),
    ] = None,
) -> str:
    """The version that the client wants to change."""
    if versions is None:
        raise PreconditionRequiredError(
            "say which version you mean to change: send the ETag of what you have read as If-Match"
        )
    return versions


IfMatch = Annotated[str, Depends(if_match)]


def _of_role(principal: Principal, roles: Sequence[Role]) -> Principal:
    if principal.role not in roles:
        raise ForbiddenError(f"this takes the role {' or '.join(roles)}")
    return principal


Limit = Annotated[int, Query(ge=1, le=100, description="How many to return.")]
Offset = Annotated[int, Query(ge=0, le=1_000_000, description="How many to skip.")]
