"""Exceptions as plain data: types and stacks, and the texts that a message may have quoted."""

from __future__ import annotations

import json
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final

_FRAMES: Final = 50  # the innermost; a recursion has thousands
_CAUSES: Final = 5
_MEMBERS: Final = 10  # of an exception group
_TELLING: Final = 4  # a shorter text occurs in a message by chance
_LINE: Final = 8  # and so does a shorter line of a text
_LINES: Final = 100  # of one text
_LONGEST: Final = 64 * 1024  # characters of one text; no message holds more


def describe(error: BaseException, text: Callable[[str], str] | None = None) -> dict[str, Any]:
    """Return ``{type, stack: [{file, line, function}], causes, exceptions}``.

    The stack's innermost call comes last. ``causes`` and ``exceptions`` (those of a group) are
    there when there are any. The exception's own text comes as ``message`` only if ``text``
    says what may be told of it; lines of source code never do.
    """
    described = _describe(error, text)
    causes = list(_causes(error))
    if causes:
        described["causes"] = [_describe(cause, text) for cause in causes]
    return described


def type_name(error: BaseException) -> str:
    """Return the type's full name; a built-in's without its module."""
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def texts(error: BaseException) -> set[str]:
    """Return what a message that quotes this exception, or a cause of it, may hold.

    That is each text whole, line by line, and both as JSON has them.
    """
    found: set[str] = set()
    for each in (error, *_causes(error)):
        for one in (each, *_members(each)):
            found |= {_string(one), _represent(one)}
            quoted = (*one.args, *getattr(one, "__notes__", ()))
            found |= {each for each in quoted if isinstance(each, str)}
            found -= {type(one).__name__, type(one).__qualname__, type_name(one)}
    found = {text[:_LONGEST] for text in found if len(text) >= _TELLING}
    lines = {line.strip() for text in found for line in text.splitlines()[:_LINES]}
    found |= {line for line in lines if len(line) >= _LINE}
    return found.union(*({_as_json(text), _as_json(text, ascii=False)} for text in found))


def mark(error: BaseException, name: str, occasion: str) -> None:
    """Remember that ``name`` has dealt with this exception; with a group, with its members.

    On that ``occasion``: one that a module made once may be raised again in another request.
    """
    for one in (error, *_members(error)):
        # Not setattr: an exception may be a frozen dataclass.
        one.__dict__[name] = occasion


def is_marked(error: BaseException, name: str, occasion: str | None = None) -> bool:
    """Whether ``name`` has dealt with this very exception, or with all members of this group.

    Without an ``occasion``: on whichever was the latest.
    """

    def marked(one: BaseException) -> bool:
        return name in one.__dict__ and occasion in {None, one.__dict__[name]}

    if marked(error):
        return True
    members = list(_members(error))
    return bool(members) and all(
        marked(member) for member in members if not isinstance(member, BaseExceptionGroup)
    )


def _describe(error: BaseException, text: Callable[[str], str] | None) -> dict[str, Any]:
    described: dict[str, Any] = {"type": type_name(error)}
    if text:
        described["message"] = text(_string(error))
    described["stack"] = _stack(error.__traceback__)
    if isinstance(error, SyntaxError) and error.filename:  # where it is, beside who imports it
        place = {"file": error.filename, "line": error.lineno, "function": "<module>"}
        described["stack"].append(place)
    if isinstance(error, BaseExceptionGroup):
        members = error.exceptions[:_MEMBERS]
        described["exceptions"] = [_describe(member, text) for member in members]
    return described


def _stack(innermost: TracebackType | None) -> list[dict[str, Any]]:
    frames = deque(traceback.walk_tb(innermost), maxlen=_FRAMES)
    return [
        {
            "file": frame.f_code.co_filename,
            "line": line,
            "function": frame.f_code.co_qualname,
        }
        for frame, line in frames
    ]


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen = {id(error)}
    for _ in range(_CAUSES):
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None or id(cause) in seen:
            return
        seen.add(id(cause))
        yield cause
        error = cause


def _members(error: BaseException) -> Iterator[BaseException]:
    """Every exception below a group, at any depth."""
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield member
            yield from _members(member)


def _as_json(text: str, *, ascii: bool = True) -> str:  # noqa: A002 - as json names it
    return json.dumps(text, ensure_ascii=ascii)[1:-1]


def _string(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def _represent(error: BaseException) -> str:
    """Return what ``repr`` says behind the type's name, which is no secret."""
    try:
        return repr(error).removeprefix(type(error).__name__)
    except Exception:
        return ""
