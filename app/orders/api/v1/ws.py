"""``/api/v1/ws``: what happens to orders, by WebSocket."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from fastapi import APIRouter, WebSocket
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Receive, Send

from orders.core.access import Principal, Scope
from orders.core.csrf import is_own_page
from orders.core.errors import (
    BusyError,
    DomainError,
    ForbiddenError,
    ProblemResponse,
    UnauthenticatedError,
)
from orders.core.event_cursor import EventCursor
from orders.core.rooms import Room, room_for
from orders.core.subprotocols import PROTOCOL, offered
from orders.schemas.event import StreamQuery
from orders.services import credentials, orders, tickets
from orders.stream.follow import follow
from orders.stream.hub import Hub
from orders.stream.message import (
    AWAY,
    GONE,
    MALFORMED,
    RESTART,
    RESTARTS,
    TRY_LATER,
    UNREAD,
    End,
    Message,
    as_json,
)
from tidegate import bind_user, hand_over

router = APIRouter()


@router.websocket("/ws")
async def follow_by_websocket(websocket: WebSocket) -> None:
    """Send the messages of `docs/events.md` until one side closes; read nothing."""
    if not _is_ours(websocket):
        refusal = (
            "WebSockets are for our own pages; add this Origin to APP_BROWSER_ORIGINS if it is"
        )
        await websocket.send_denial_response(ProblemResponse(403, refusal))
        return
    # Accepted first: a browser's script sees a close code, but not the status of a refusal.
    await websocket.accept(PROTOCOL if PROTOCOL in websocket.scope["subprotocols"] else None)
    try:
        query = StreamQuery.model_validate(dict(websocket.query_params))
        principal, room = await _enter(websocket, query)
    except ValidationError:
        end = MALFORMED
    except DomainError as error:
        end = _end_for(error)
    except (SQLAlchemyError, OSError):
        end = AWAY
    else:
        # What has let it in is not kept for as long as it stays.
        rest = partial(_serve, websocket.app.state.hub, principal, room, query.cursor)
        hand_over(websocket.scope, rest)
        return
    with suppress(RuntimeError):  # the client was quicker
        await websocket.close(end.code, end.reason)


async def _serve(
    hub: Hub,
    principal: Principal,
    room: Room,
    cursor: EventCursor | None,
    receive: Receive,
    send: Send,
) -> None:
    client = _Client(receive, send)
    try:
        await follow(hub, principal, room, cursor, client)
        return
    except DomainError as error:
        end = _end_for(error)
    except (SQLAlchemyError, OSError):
        end = AWAY
    with suppress(OSError):  # the client was quicker
        await client.say(end)


def _end_for(error: DomainError) -> End:
    code = TRY_LATER if isinstance(error, BusyError) else 4000 + error.status
    return End(code, str(error))


class _Client:
    """The other end of a WebSocket."""

    __slots__ = ("_receive", "_send")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send

    async def say(self, said: Message | End) -> None:
        if isinstance(said, End):
            close = {"type": "websocket.close", "code": said.code, "reason": said.reason}
            await self._send(close)
        else:
            await self._send({"type": "websocket.send", "text": as_json(said)})

    async def until_gone(self) -> End:
        message = await self._receive()
        if message["type"] != "websocket.disconnect":
            return UNREAD
        return RESTARTS if message.get("code") == RESTART else GONE


async def _enter(websocket: WebSocket, query: StreamQuery) -> tuple[Principal, Room]:
    state, lookups = websocket.app.state, websocket.app.state.lookups
    protocols = websocket.scope["subprotocols"]
    headers = websocket.headers
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if ticket := offered(protocols, "ticket"):
        async with state.sessions() as session:
            principal = await tickets.redeem(session, ticket)
    elif token := offered(protocols, "bearer") or (token if scheme.lower() == "bearer" else ""):
        principal = await credentials.by_access_token(lookups, state.tokens, token)
    elif key := headers.get("x-api-key"):
        principal = await credentials.by_api_key(lookups, key)
    else:
        raise UnauthenticatedError("offer the subprotocol ticket.<ticket> or bearer.<token>")
    if Scope.ORDERS_READ not in principal.scopes:
        raise ForbiddenError(f"the API key lacks the scope {Scope.ORDERS_READ}")
    bind_user(str(principal.user_id))
    await state.hub.admit(principal)
    if query.order_id:
        await orders.get(lookups, principal, query.order_id)
    return principal, room_for(principal, query.order_id)


def _is_ours(websocket: WebSocket) -> bool:
    # Browsers always send it, and no script can change it; who sends none is no browser.
    origin, host = websocket.headers.get("origin"), websocket.headers.get("host")
    return origin is None or is_own_page(origin, host, websocket.app.state.settings.browser_origins)
