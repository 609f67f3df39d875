"""uvicorn's HTTP protocol, with bounds on what comes before the application is asked.

The parser has none: it would take in a head of any size, in any time, and whoever reads a header
in Python then does so while nobody else is served. And what the server itself refuses gets an id,
an access line and a body for programs here, as all other answers have.
"""

from __future__ import annotations

import asyncio
import json
from asyncio import TimerHandle
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

if TYPE_CHECKING:
    from tidegate.core import Tidegate

HEAD_SECONDS: Final = 30.0
"""How long a head may take, from its first byte; on a new connection, from the beginning."""

_LINGER: Final = 2.0  # seconds in which a client that still sends can read why it is refused


class _HeadTooLargeError(Exception):
    pass


class _Deaf:
    """Stands where the parser was: what still comes is thrown away."""

    def feed_data(self, data: bytes) -> None:
        pass


_DEAF: Final[Any] = _Deaf()


class BoundedHttpProtocol(HttpToolsProtocol):
    """Refuses heads that are too large or too slow, and tells of each request that it refuses.

    A request whose head comes in one piece, as nearly all do, costs a few comparisons more.
    """

    # With more than 30 attributes in one dictionary, all of them would be slower.
    __slots__ = ("_held", "_installed", "_long", "_most", "_timer")

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*arguments, **named)
        self._installed: Tidegate = cast("Any", self.config.app).state.tidegate
        self._most = self._installed.settings.head_bytes
        self._held = 0  # bytes that have come since a head or a piece of a body was handed on
        self._long = False  # enough of them that a head in there may be too large
        self._timer: TimerHandle | None = None  # while a head is waited for

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what is waited for."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, and see to it that what is still to come has an end."""
        self._unset_keepalive_if_required()
        self._held += len(data)
        self._long = self._held > self._most
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._refuse(*self._explain(error))
            return
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
                return
            self._unsupported_upgrade_warning()
        if self._held > self._most:  # of one head, or of what may follow a chunked body
            self._refuse(*self._explain_size())
            return
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope or cycle.response_complete:
            self._wait()

    def on_headers_complete(self) -> None:
        """Measure a head that may be too large, before anybody is asked to answer it."""
        if self._timer or self._long:  # it came in pieces, or in a large one
            self._stop_waiting()
            line = len(self.parser.get_method()) + len(self.url) + len(b"  HTTP/1.1\r\n\r\n")
            if line + sum(len(each[0]) + len(each[1]) + 4 for each in self.headers) > self._most:
                raise _HeadTooLargeError
        self._held = 0
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """Keep what follows a chunked body out of the headers, to which uvicorn would add it.

        Whoever has looked at them before, a proxy above all, has not seen it.
        """
        if self.headers is self.scope["headers"]:
            self.headers = self.headers.copy()

    def on_body(self, body: bytes) -> None:
        """Hand a piece of a body on."""
        self._held = 0
        super().on_body(body)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; take it back where the handshake would go unanswered."""
        super().handle_websocket_upgrade()
        successor = cast("Any", self.transport.get_protocol())
        if getattr(successor, "handshake_initiated", True):
            return
        self.connections.discard(successor)
        self.connections.add(self)
        self.transport.set_protocol(self)
        reason = successor.conn.handshake_exc
        self._refuse(HTTPStatus.BAD_REQUEST, f"the WebSocket cannot be opened: {reason}")

    def _wait(self) -> None:
        if self._timer is None and self.parser is not _DEAF:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self.scope is None or self._is_handed_on():  # no head has begun
            self.transport.close()
            return
        self._refuse(
            HTTPStatus.REQUEST_TIMEOUT,
            f"the request's head did not come within {HEAD_SECONDS:g} seconds",
        )

    def _is_handed_on(self) -> bool:
        """Tell whether the head that came last is whole; a body or trailers may still come."""
        return self.cycle is not None and self.cycle.scope is self.scope

    def _explain(self, error: httptools.HttpParserError) -> tuple[HTTPStatus, str]:
        if isinstance(error.__context__, _HeadTooLargeError):
            return self._explain_size()
        if isinstance(error, httptools.HttpParserCallbackError):  # says where in our code
            return HTTPStatus.BAD_REQUEST, "the request's target is malformed"
        return HTTPStatus.BAD_REQUEST, f"the request cannot be read: {error}"

    def _explain_size(self) -> tuple[HTTPStatus, str]:
        return (
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the request's line and headers are larger than the {self._most} bytes that are "
            "read here; send fewer or shorter ones",
        )

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer, if the next answer is that of the refused request; end the connection."""
        if self.parser is _DEAF:
            return
        self.parser = _DEAF
        self._stop_waiting()
        cycle = self.cycle
        if self._is_handed_on():
            cycle.disconnected = True  # its body will never be whole
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.close()
                return
        elif cycle and not cycle.response_complete:
            cycle.keep_alive = False  # the answers to those before it are the last
            return
        told = self._installed.note_refusal(status)
        headers = [*self.server_state.default_headers, *told]
        self.transport.write(_answer(status, detail, headers))
        # Closed while a client still sends, the connection is reset, and the answer is lost.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER, self.transport.close)


def _answer(status: HTTPStatus, detail: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    problem = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
    }
    body = json.dumps(problem).encode()
    lines = [
        b"content-type: application/problem+json",
        b"content-length: %d" % len(body),
        b"connection: close",
        *(b": ".join(header) for header in headers),
    ]
    return b"\r\n".join([STATUS_LINE[status] + lines[0], *lines[1:], b"", body])
