"""What clients are told, and how the two protocols carry it: pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NORMAL: Final = 1000
UNREADABLE: Final = 1003
RESTART: Final = 1012
TRY_LATER: Final = 1013


class Kind(StrEnum):
    """What a message is about."""

    READY = "ready"
    """The stream has begun; all that happens from here on is told."""
    RESET = "reset"
    """What the client has seen last is too long ago: let it read its orders again."""
    EVENT = "event"
    PING = "ping"


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one client."""

    kind: Kind
    last_event_id: str = ""
    """What to give back after a break; a ping has none."""
    event: str = ""
    """The event, as JSON."""


PING: Final = Message(Kind.PING)


@dataclass(frozen=True, slots=True)
class End:
    """Why a stream ends: a WebSocket's close code, and words for people."""

    code: int
    reason: str


GONE: Final = End(NORMAL, "the client has left")
RESTARTS: Final = End(RESTART, "the server restarts; connect again")
SLOW: Final = End(
    TRY_LATER, "too slow: more events wait than are kept for one client; connect again"
)
REVOKED: Final = End(4401, "signed out, or no longer allowed; sign in again")
UNREAD: Final = End(UNREADABLE, "nothing is read here: this stream only tells")
MALFORMED: Final = End(4422, "the query is malformed: order_id and last_event_id may be in it")
AWAY: Final = End(TRY_LATER, "the database does not answer; try again soon")
TOO_OLD: Final = End(4401, "an access token would have expired by now; connect again with another")


def as_json(message: Message) -> str:
    """Return a message as a WebSocket carries it."""
    if message.kind is Kind.PING:
        return '{"type":"ping"}'
    event = f',"event":{message.event}' if message.event else ""
    return f'{{"type":"{message.kind}","last_event_id":"{message.last_event_id}"{event}}}'


def as_sse(message: Message) -> str:
    """Return a message as a piece of a text/event-stream."""
    match message.kind:
        case Kind.PING:
            return ": ping\n\n"
        case Kind.READY:
            return f"id: {message.last_event_id}\n\n"  # without data: kept, and shown to nobody
        case _:
            data = message.event or "{}"
            return f"id: {message.last_event_id}\nevent: {message.kind}\ndata: {data}\n\n"


def end_as_sse(end: End) -> str:
    """Return the last words of a text/event-stream, which has no close codes."""
    return f"event: end\ndata: {json.dumps({'code': end.code, 'reason': end.reason})}\n\n"
