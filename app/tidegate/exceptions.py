"""Exceptions as plain data: types and stacks, and the texts that a message may have quoted."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final

_FRAMES: Final = 50  # the innermost; a recursion has thousands
_CAUSES: Final = 5
_MEMBERS: Final = 10  # of an exception group
_TELLING: Final = 4  # a shorter text occurs in a message by chance


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
    """Return what a message that quotes this exception, or a cause of it, may hold."""
    found: set[str] = set()
    for each in (error, *_causes(error)):
        for one in (each, *_members(each)):
            found |= {_string(one), _represent(one)}
            found |= {argument for argument in one.args if isinstance(argument, str)}
    return {text for text in found if len(text) >= _TELLING}


def mark(error: BaseException, name: str) -> None:
    """Remember that ``name`` has dealt with this exception; with a group, with its members."""
    for one in (error, *_members(error)):
        # Not setattr: an exception may be a frozen dataclass.
        one.__dict__[name] = True


def is_marked(error: BaseException, name: str) -> bool:
    """Whether ``name`` has dealt with this very exception, or with all members of this group."""
    if name in error.__dict__:
        return True
    members = list(_members(error))
    return bool(members) and all(
        name in member.__dict__ for member in members if not isinstance(member, BaseExceptionGroup)
    )


def _describe(error: BaseException, text: Callable[[str], str] | None) -> dict[str, Any]:
    described: dict[str, Any] = {"type": type_name(error)}
    if text:
        described["message"] = text(_string(error))
    described["stack"] = _stack(error.__traceback__)
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


def _string(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def _represent(error: BaseException) -> str:
    try:
        return repr(error)
    except Exception:
        return ""
