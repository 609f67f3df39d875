"""What an exception of env.py, a revision or a driver means for the person who released it."""

from __future__ import annotations

from typing import Final

from tidegate.schema import Failure
from tidegate_migrate.database import hide_password
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.patience import sqlstate

_HINTS: Final = {
    "42501": (Failure.SETTINGS, "grant the role what it lacks, or let it own the schema"),
    "25006": (Failure.SETTINGS, "name the primary, not a replica, in DATABASE_URL or DIRECT_URL"),
    "53100": (Failure.MIGRATION_ERROR, "the server's disk is full: make room, then run this again"),
    "57014": (
        Failure.MIGRATION_ERROR,
        'if it is meant to take long, write statement_timeout = "off" (or a number of seconds) '
        "in the revision's file, or raise --statement-timeout",
    ),
    "25P03": (
        Failure.MIGRATION_ERROR,
        "it held its locks without a statement for a minute: let it compute before it begins",
    ),
}
_BROKEN: Final = ("08", "57P")  # classes of codes: the connection broke, the server shuts down


def explain(error: BaseException, revision: str, url: str) -> MigrateError:
    """Say what env.py or a revision ran into; ``revision`` is "" before any has begun."""
    cause = getattr(error, "orig", None) or error
    words = " ".join(str(cause).split()) or type(cause).__name__
    where = f"revision {revision} failed" if revision else "env.py failed before any revision ran"
    text = hide_password(url, f"{where}: {type(cause).__name__}: {words}")
    code = sqlstate(error)
    if code.startswith(_BROKEN) or getattr(error, "connection_invalidated", False):
        return MigrateError(
            Failure.UNREACHABLE,
            text,
            hint="the connection broke; what was not finished is rolled back: run this again",
            revision=revision,
        )
    if code in _HINTS:
        failure, hint = _HINTS[code]
        return MigrateError(failure, text, hint=hint, revision=revision)
    return MigrateError(
        Failure.MIGRATION_ERROR,
        text,
        hint="what its transaction held was rolled back (what it ran outside of one stays); "
        "mend the revision and release again"
        if revision
        else "nothing was applied; mend env.py and release again",
        revision=revision,
    )
