"""What a file is, by what is in it: neither its name nor its sender is asked.

A short list, on purpose. A library that knows a thousand formats takes two bytes for a proof, and
opens archives to look inside; here nothing is ever opened. Whatever else a file may be at the same
time (a picture can be a script as well), it is stored, named and sent as the one thing it is here.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection
from typing import Final

TEXT: Final = "text/plain"

ENDINGS: Final = {
    "application/gzip": (".gz", ".tgz"),
    "application/pdf": (".pdf",),
    "application/zip": (".zip", ".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp"),
    "image/gif": (".gif",),
    "image/jpeg": (".jpg", ".jpeg"),
    "image/png": (".png",),
    "image/webp": (".webp",),
    TEXT: (".txt", ".csv", ".md", ".log"),
}
"""How the names of such files end; the first is given to those that end otherwise."""

_SIGNATURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b\x08", "application/gzip"),
)
_HEAD: Final = 12  # bytes, for the longest of them: WebP's is in two parts
# No text has these; what obeys them is a terminal.
_NO_TEXT: Final = frozenset(range(0x20)) - frozenset(b"\t\n\r\f") | {0x7F}
_CONTROLS: Final = bytes(sorted(_NO_TEXT))


class UnknownContentError(Exception):
    """The content is none of the types that are taken; the text says what it is."""


class Sniffer:
    """Finds out what a file is while it passes by.

    Args:
        allowed: the types that are taken, of those in ``ENDINGS``.
    """

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = allowed
        self._head = b""
        self._found: str | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes.

        Raises:
            UnknownContentError: the file is not of a type that is taken.
        """
        if self._found is None:
            self._head += chunk
            if len(self._head) >= _HEAD:
                self._decide()
        elif self._found == TEXT:
            self._read(chunk)

    def close(self) -> str:
        """Return the file's type, now that all of it has passed by.

        Raises:
            UnknownContentError: the file is not of a type that is taken.
        """
        found = self._found or self._decide()
        if found == TEXT:
            self._read(b"", final=True)
        return found

    def _decide(self) -> str:
        head, self._head = self._head, b""
        self._found = found = by_signature(head) or TEXT
        if found == TEXT:
            self._read(head)
        if found not in self._allowed:
            raise UnknownContentError(f"it is {found}")
        return found

    def _read(self, chunk: bytes, *, final: bool = False) -> None:
        try:
            self._decoder.decode(chunk, final)
        except UnicodeDecodeError:
            raise UnknownContentError("it is unknown, and no text in UTF-8") from None
        if chunk.translate(None, _CONTROLS) != chunk:
            raise UnknownContentError("it is unknown, and text has no control characters")


def by_signature(head: bytes) -> str | None:
    """Return the type that a file of this beginning has; ``None`` if it may be text, or anything.

    Nothing before the signature is passed over, as some readers do.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)
