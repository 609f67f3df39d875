"""Keeping secrets out of logs, spans and Sentry: by the name of a value, and inside any text.

When in doubt the value goes: a line that says too little can be mended, one that said too much
cannot be taken back.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from copy import copy
from functools import lru_cache
from typing import Any, Final

MARK: Final = "[scrubbed]"
"""Stands where a secret was."""
WITHHELD: Final = "[withheld]"
"""Stands where the text of an exception was."""
LONGEST: Final = 64 * 1024
"""Characters of a text; the rest is cut off."""

_NAMES: Final = (
    *("password", "passwd", "passphrase", "passcode", "secret", "token", "authorization"),
    *("cookie", "credential", "session", "apikey", "accesskey", "privatekey", "signingkey"),
    *("connectionstring", "querystring", "urlquery", "httpquery"),
    *("dsn", "auth", "pass", "pwd", "jwt", "otp", "csrf", "xsrf", "cvv", "ssn"),
)
# Each of those holds one of these: a quick way to see that a text names none of them.
_HINTS: Final = (
    *("key", "pass", "secret", "token", "auth", "cookie", "cred", "session", "query"),
    *("connection", "dsn", "pwd", "jwt", "otp", "srf", "cvv", "ssn"),
)
# Beside those a number counts something: prompt_tokens, session_count. It is no secret then.
_COUNTS: Final = frozenset(
    {
        *("tokens", "sessions", "cookies", "count", "total", "limit"),
        *("seconds", "ms", "timeout", "ttl", "expires"),
    }
)
_NEVER_COUNTS: Final = ("pass", "pwd", "secret", "otp", "cvv", "ssn", "pin")
_ANYWHERE: Final = 5  # a name this long counts anywhere inside another; a shorter one as a word
_DEPTH: Final = 8
_CUT_OFF: Final = 20  # characters of a withheld text that are recognised without its end
# Behind the cut is what would have told that the end of a text is a secret: it goes unread.
_MARGIN: Final = 4 * 1024

_SPACE: Final = r"[^ \t\r\n\f\v]"  # not \S: a secret may hold a no-break space
_WORD: Final = re.compile(rf"{_SPACE}+")
_ENDING: Final = "\"')}>,.;"  # punctuation after a value, when the text goes on or ends behind it
_PORT: Final = re.compile(r"\d{1,5}(?:[/?#]|$)")
_PARAMETER: Final = re.compile(r"[\w.%+-]+=")
_WEB: Final = ("http", "https", "ws", "wss")
# Anchored at the start of a word, and possessive: long harmless text must not cost its square.
_NAMED: Final = re.compile(
    r"(?<![\w.-])(?P<before>(?:api|access|private|signing|connection)[ ])?(?P<name>[\w.-]++)"
    r"(?:[ \t]*+(?:[:=]++>?+|%(?:25)*+3d)[ \t]*+|(?P<quoted>\\*[\"'])\s*+(?:[:=]++>?+|,)\s*+)",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"\d++(?:\.\d++)?(?![^ \t\r\n\f\v,;)\]}])")
_ESCAPED: Final = re.compile(r":\\++/\\++/")
# With something in it that is a user's, or a query.
_ENCODED: Final = re.compile(
    r"(?P<before>%(?:25)*+3a(?:%(?:25)*+2f){2})(?P<url>[^ \t\r\n\f\v\"'<>&]++)", re.IGNORECASE
)
_TELLING: Final = re.compile(r"[@?]|%(?:25)*+(?:40|3f)", re.IGNORECASE)
_QUOTE: Final = re.compile(r"[bBrRuUfF]{0,2}(\\*[\"'])")
_LINE: Final = re.compile(r"[^\r\n]*")
_RECOGNISABLE: Final = re.compile(
    r"(?P<scheme>\b(?:bearer|basic)\s++)(?P<credentials>[^ \t\r\n\f\v]++)"
    r"|-----BEGIN[A-Z ]*PRIVATE KEY-----.*?(?:-----END[A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\beyJ[\w-]++\.[\w-]++\.[\w-]*+",
    re.IGNORECASE | re.DOTALL,
)


class Scrubber:
    """Replaces secrets; immutable, and safe to share between threads.

    Args:
        extra_keys: further names whose values are secret, in any case and with any separators.
    """

    def __init__(self, extra_keys: Iterable[str] = ()) -> None:
        extra = {_letters(key) for key in extra_keys} - {""}
        self._extra = tuple(extra)
        names = extra.union(_NAMES)
        self._hints = ("",) if extra else _HINTS
        self._long = tuple(sorted(name for name in names if len(name) >= _ANYWHERE))
        self._short = frozenset(name for name in names if len(name) < _ANYWHERE)
        self._withheld: frozenset[str] = frozenset()
        self.is_secret = lru_cache(maxsize=1024)(self._is_secret)
        """Whether the values of this name never leave."""
        self.is_count = lru_cache(maxsize=1024)(self._is_count)
        """Whether they do if they are numbers, whatever else the name says."""

    def withholding(self, texts: Iterable[str]) -> Scrubber:
        """Return one that replaces these texts as well, wherever they occur, even cut off."""
        scrubber = copy(self)
        scrubber._withheld = frozenset(texts) - {""}
        return scrubber

    def text(self, text: str, longest: int = LONGEST) -> str:
        """Return ``text`` without URL queries and passwords, credentials and named secrets.

        Args:
            text: anything; what it costs is bounded by ``longest``.
            longest: the most characters of the answer.
        """
        if len(text) <= longest:
            return self._text(text)
        return self._text(text[: longest + _MARGIN])[:-_MARGIN][:longest]

    def _text(self, text: str) -> str:
        if self._withheld:
            text = _withhold(text, self._withheld)
        if ":\\" in text:
            text = _ESCAPED.sub("://", text)
        if ("://" in text and "@" in text) or "?" in text:
            text = _WORD.sub(_scrub_url, text)
        folded = text.lower()
        if "%" in text:
            text = _ENCODED.sub(_scrub_encoded, text)
        if ":" in text or "=" in text or "'," in text or '",' in text or "%" in text:
            for hint in self._hints:
                if hint in folded:
                    text = self._scrub_named(text)
                    break
        if "bearer" in folded or "basic" in folded or "eyj" in folded or "-----begin" in folded:
            return _RECOGNISABLE.sub(_scrub_recognisable, text)
        return text

    def value(self, name: str, value: Any) -> Any:  # noqa: ANN401 - whatever may be logged
        """Return what may be told of ``value``; containers become plain dicts and lists."""
        return self._value(name, value, _DEPTH)

    def mapping(self, values: Mapping[Any, Any]) -> dict[str, Any]:
        """Return the same names with what may be told of their values."""
        return self._mapping(values, _DEPTH)

    def _mapping(self, values: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        return {
            self.text(name): self._value(name, value, depth)
            for name, value in ((_name(key), value) for key, value in values.items())
        }

    def _value(self, name: str, value: Any, depth: int) -> Any:  # noqa: ANN401
        if value is None or isinstance(value, bool):
            return value
        if self.is_secret(name) and not (isinstance(value, (int, float)) and self.is_count(name)):
            return MARK
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (bytes, bytearray)):
            return self.text(value.decode("utf-8", "backslashreplace"))
        if isinstance(value, (int, float)):
            return value
        if isinstance(value, Mapping):
            return self._mapping(value, depth - 1) if depth else MARK
        if isinstance(value, tuple) and hasattr(value, "_asdict"):
            return self._mapping(value._asdict(), depth - 1) if depth else MARK
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._item(item, depth - 1) for item in value] if depth else MARK
        return value

    def _item(self, item: Any, depth: int) -> Any:  # noqa: ANN401
        # A pair as in a list of headers: the first says what the second is.
        if isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], (str, bytes)):
            return [self._value("", item[0], depth), self._value(_name(item[0]), item[1], depth)]
        return self._value("", item, depth)

    def _is_secret(self, name: str) -> bool:
        letters = _letters(name)
        if any(part in letters for part in self._long):
            return True
        return not self._short.isdisjoint((letters, *_words(name)))

    def _is_count(self, name: str) -> bool:
        letters = _letters(name)
        return not _COUNTS.isdisjoint(_words(name)) and not any(
            part in letters for part in (*_NEVER_COUNTS, *self._extra)
        )

    def _scrub_named(self, text: str) -> str:
        kept: list[str] = []
        position = 0
        while found := _NAMED.search(text, position):
            name = (found["before"] or "") + found["name"]
            if not self.is_secret(name) or (
                self.is_count(name) and _NUMBER.match(text, found.end())
            ):
                # From the end of the name: what follows may be a name itself.
                end = found.end("name")
                kept.append(text[position:end])
                position = end
                continue
            letters = _letters(name)
            if not found["quoted"] and ("authorization" in letters or "cookie" in letters):
                end, ending = _end_of_line(text, found.end()), ""
            else:
                end, ending = _end_of_value(text, found.end())
            kept += [text[position : found.end()], MARK if end > found.end() else "", ending]
            position = end + len(ending)
        return "".join(kept) + text[position:] if kept else text


def _withhold(text: str, withheld: Iterable[str]) -> str:
    """Replace each of these, and what begins as one does: the application may have cut it."""
    found: list[tuple[int, int]] = []
    for each in withheld:
        beginning = each[:_CUT_OFF]
        end = 0
        while (start := text.find(beginning, end)) >= 0:
            end = start + _count_alike(text, start, each)
            found.append((start, end))
    # All in the same text, and only then replaced: they overlap, as lines and their text do.
    kept: list[str] = []
    position = 0
    for start, end in sorted(found):
        if start > position or not kept:
            kept += [text[position:start], WITHHELD]
        position = max(position, end)
    return "".join(kept) + text[position:]


def _count_alike(text: str, start: int, other: str) -> int:
    if text.startswith(other, start):
        return len(other)
    alike = (text[start + n : start + n + 1] == character for n, character in enumerate(other))
    return next(n for n, same in enumerate(alike) if not same)


def _end_of_line(text: str, start: int) -> int:
    line = _LINE.match(text, start)
    return line.end() if line else start


def _end_of_value(text: str, start: int) -> tuple[int, str]:
    """Return where the value ends, and the punctuation behind it that is kept."""
    if text.startswith(MARK, start):
        end = start + len(MARK)
        rest = _word_at(text, end)
        if not rest.strip(_ENDING):
            return end, rest
    if quoted := _QUOTE.match(text, start):
        quote, end = quoted[1], quoted.end()
        while (end := text.find(quote[-1], end) + 1) and not _closes(text, end - 1, quote):
            pass
        return end or len(text), ""
    if text.startswith(("[", "{", "("), start):
        return _end_of_line(text, start), ""
    word = _word_at(text, start)
    value = word.rstrip(_ENDING)
    return start + len(value), word[len(value) :]


def _closes(text: str, position: int, quote: str) -> bool:
    """Whether this quotation mark ends what ``quote`` began: ``"``, or ``\\"`` within another."""
    backslashes = 0
    while text[position - backslashes - 1] == "\\":
        backslashes += 1
    # Each level of quoting doubles the backslashes that stand for one and adds one for the mark.
    return backslashes % (2 * len(quote)) == len(quote) - 1


def _word_at(text: str, position: int) -> str:
    word = _WORD.match(text, position)
    return word[0] if word else ""


def _scrub_url(found: re.Match[str]) -> str:
    word = found[0]
    if "://" in word and "@" in word:
        word = _scrub_userinfo(word)
    if "?" in word:
        word = _scrub_query(word)
    return word


def _scrub_encoded(found: re.Match[str]) -> str:
    return f"{found['before']}{MARK}" if _TELLING.search(found["url"]) else found[0]


def _scrub_userinfo(word: str) -> str:
    head, *rest = word.split("://")
    for position, part in enumerate(rest):
        scheme = (head if position == 0 else rest[position - 1]).lower()
        if not scheme.endswith(_WEB):
            # A database's URL: people put passwords there as they are, with any character.
            before = "://".join([head, *rest[:position]])
            _, at, host = "://".join(rest[position:]).rpartition("@")
            return f"{before}://{MARK}@{host}" if at else word
        rest[position] = _scrub_authority(part)
    return "://".join([head, *rest])


def _scrub_authority(part: str) -> str:
    authority = re.split(r"[/?#]", part, maxsplit=1)[0]
    if "@" in authority:
        return f"{MARK}@" + authority.rpartition("@")[2] + part[len(authority) :]
    _, colon, port = part.partition(":")
    # https://user:a/b@host is no URL, and still somebody's password; https://host:80/@b is one.
    if colon and "@" in port and not part.startswith("[") and not _PORT.match(port):
        return f"{MARK}@" + part.rpartition("@")[2]
    return part


def _scrub_query(word: str) -> str:
    before, _, query = word.partition("?")
    if "/" not in before and not _PARAMETER.match(query):
        return word
    value = query.rstrip(_ENDING)
    return f"{before}?{MARK}{query[len(value) :]}" if value else word


def _scrub_recognisable(found: re.Match[str]) -> str:
    scheme, credentials = found["scheme"], found["credentials"]
    if scheme is None:
        return MARK
    value = credentials.rstrip(_ENDING)
    if not value or (scheme.lower().startswith("basic") and not _is_basic(value)):
        return found[0]
    return f"{scheme}{MARK}{credentials[len(value) :]}"


def _is_basic(credentials: str) -> bool:
    """Whether this is base64 of ``user:password``, and not a word after "basic"."""
    try:
        return b":" in base64.b64decode(credentials, validate=True)
    except (binascii.Error, ValueError):
        return False


def _name(key: object) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _words(name: str) -> list[str]:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[\W_]+", " ", name).lower().split()
