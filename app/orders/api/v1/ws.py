"""``/api/v1/ws``: what happens to orders, by WebSocket."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from fastapi import APIRouter, WebSocket
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from orders.api.deps import get_auth, get_hub
from orders.core.access import Principal, Scope
from orders.core.csrf import is_own_page
from orders.core.database import Sessions
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
from orders.services import orders, tickets
from orders.stream.consumer import Consumer
from orders.stream.follow import follow, send_all
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
from tidegate import bind_user

router = APIRouter()


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
    end = await _serve(websocket)
    if end is not GONE:
        with suppress(RuntimeError):  # the client was quicker
            await websocket.close(end.code, end.reason)


async def _serve(websocket: WebSocket) -> End:
    try:
        query = StreamQuery.model_validate(dict(websocket.query_params))
        principal, room = await _enter(websocket, query)
        with (await get_hub(websocket)).joined(principal, room) as consumer:
            await _tell(websocket, consumer, query.cursor)
        return consumer.end or GONE
    except ValidationError:
        return MALFORMED
    except BusyError as error:
        return End(TRY_LATER, str(error))
    except DomainError as error:
        return End(4000 + error.status, str(error))
    except (SQLAlchemyError, OSError):
        return AWAY


async def _enter(websocket: WebSocket, query: StreamQuery) -> tuple[Principal, Room]:
    sessions: Sessions = websocket.app.state.sessions
    # Given back before the stream begins: a connection for each client would be too many.
    async with sessions() as session:
        auth = await get_auth(websocket, session)
        protocols = websocket.scope["subprotocols"]
        headers = websocket.headers
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if ticket := offered(protocols, "ticket"):
            principal = await tickets.redeem(session, ticket)
        elif token := offered(protocols, "bearer") or (token if scheme.lower() == "bearer" else ""):
            principal = await auth.by_access_token(token)
        elif key := headers.get("x-api-key"):
            principal = await auth.by_api_key(key)
        else:
            raise UnauthenticatedError("offer the subprotocol ticket.<ticket> or bearer.<token>")
        if Scope.ORDERS_READ not in principal.scopes:
            raise ForbiddenError(f"the API key lacks the scope {Scope.ORDERS_READ}")
        bind_user(str(principal.user_id))
        await (await get_hub(websocket)).admit(principal)
        if query.order_id:
            await orders.get(session, principal, query.order_id)
        return principal, room_for(principal, query.order_id)


async def _tell(websocket: WebSocket, consumer: Consumer, cursor: EventCursor | None) -> None:
    async def send(message: Message) -> None:
        await websocket.send({"type": "websocket.send", "text": as_json(message)})

    gone = asyncio.ensure_future(_until_gone(websocket, consumer))
    try:
        await send_all(follow(await get_hub(websocket), consumer, cursor), consumer, send)
    finally:
        gone.cancel()
        await asyncio.wait({gone})


async def _until_gone(websocket: WebSocket, consumer: Consumer) -> None:
    message = await websocket.receive()
    if message["type"] != "websocket.disconnect":
        consumer.close(UNREAD)
    else:
        consumer.close(RESTARTS if message.get("code") == RESTART else GONE)


def _is_ours(websocket: WebSocket) -> bool:
    # Browsers always send it, and no script can change it; who sends none is no browser.
    origin, host = websocket.headers.get("origin"), websocket.headers.get("host")
    return origin is None or is_own_page(origin, host, websocket.app.state.settings.browser_origins)


# Starlette's route, not FastAPI's: that one keeps what it needs for dependencies as long as the
# connection lasts.
router.add_websocket_route("/ws", follow_by_websocket)
