"""``multipart/form-data`` (RFC 7578), part by part as it comes: nothing is kept here."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from orders.core.errors import DomainError

PART_OVERHEAD: Final = 8 * 4500
"""The most bytes that a part has besides its content: eight header lines, as the parser allows."""

_LONGEST_TYPE: Final = 1024
"""Characters of a Content-Type. The parser of its parameters takes seconds for a million."""


class MalformedBodyError(DomainError):
    """The body is not what its content type says."""


class NoFormError(DomainError):
    """The body is not of the type that is read here."""

    status: ClassVar[HTTPStatus] = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form. Read its content before you ask for the next part."""

    field: str
    file_name: str
    """As the client gave it: good for nothing but to be looked at."""
    content: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class _Begun:
    field: str
    file_name: str


class _Ended:
    pass


class _Over:
    pass


_Event = _Begun | bytes | _Ended | _Over


class Form:
    """A form that is still on its way.

    Args:
        content_type: the request's header.
        stream: the request's body.

    Raises:
        NoFormError: the header names something else.
    """

    def __init__(self, content_type: str, stream: AsyncIterator[bytes]) -> None:
        kind = media_type(content_type)
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != "multipart/form-data" or not boundary:
            raise NoFormError("the body is no form; send multipart/form-data with a boundary")
        self._stream = stream
        self._events: deque[_Event] = deque()
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_begin": self._header_begins,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._part_begins,
                    "on_part_data": self._data,
                    "on_part_end": lambda: self._events.append(_Ended()),
                    "on_end": lambda: self._events.append(_Over()),
                },
            )
        except FormParserError:
            raise MalformedBodyError("the form's boundary is too long") from None

    async def parts(self) -> AsyncIterator[Part]:
        """Yield the parts as they come; what nobody reads of one is passed over.

        Raises:
            MalformedBodyError: it is no form, or ends too early.
        """
        while True:
            event = await self._next()
            if isinstance(event, _Begun):
                content = self._content()
                yield Part(event.field, event.file_name, content)
                async for _ in content:
                    pass
            elif isinstance(event, _Over):
                async for _ in self._stream:  # an epilogue, which nobody means
                    pass
                return

    async def _content(self) -> AsyncIterator[bytes]:
        while not isinstance(event := await self._next(), _Ended):
            if isinstance(event, bytes):
                yield event

    async def _next(self) -> _Event:
        while not self._events:
            chunk = await anext(self._stream, None)
            if chunk is None:
                raise MalformedBodyError("the form ends in the middle: it lacks its last boundary")
            try:
                self._parser.write(chunk)
            except FormParserError:
                raise MalformedBodyError("the form cannot be read: it is malformed") from None
        return self._events.popleft()

    def _header_begins(self) -> None:
        self._name = self._value = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._name.lower()] = self._value

    def _part_begins(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._events.append(
            _Begun(_text(options.get(b"name", b"")), _text(options.get(b"filename", b"")))
        )

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])


def media_type(content_type: str) -> str:
    """Return the type that the header names, without its parameters, in lower case.

    Raises:
        NoFormError: the header is longer than any form needs.
    """
    if len(content_type) > _LONGEST_TYPE:
        raise NoFormError(
            f"the Content-Type is longer than {_LONGEST_TYPE} characters; "
            "send the type and its boundary, and nothing else"
        )
    return content_type.partition(";")[0].strip().lower()


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
