"""What an exception of env.py, a revision or a driver means for the person who released it."""

from __future__ import annotations

from typing import Final

from tidegate.schema import Failure
from tidegate_migrate.database import hide_password
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.patience import is_about_a_lock, sqlstate

# What was prepared on one server connection is missing on the next, or in the way there.
_POOLED: Final = (
    "a pooler (PgBouncer or its like) lends each transaction another connection to the server: let "
    "env.py take its URL from DATABASE_URL or from sqlalchemy.url, where the runner puts "
    "DIRECT_URL's"
)
_HINTS: Final = {
    "42501": (Failure.SETTINGS, "grant the role what it lacks, or let it own the schema"),
    "25006": (Failure.SETTINGS, "name the primary, not a replica, in DATABASE_URL or DIRECT_URL"),
    "53100": (Failure.MIGRATION_ERROR, "the server's disk is full: make room, then run this again"),
    "57014": (
        Failure.MIGRATION_ERROR,
        'if it is meant to take long, write statement_timeout = "off" (or a number of seconds) '
        "in the revision's file, or raise --statement-timeout",
    ),
    "42P05": (Failure.SETTINGS, _POOLED),
    "26000": (Failure.SETTINGS, _POOLED),
    "25P04": (
        Failure.MIGRATION_ERROR,
        "lift the transaction_timeout of the role or the database, or let the revision do less",
    ),
    "25P03": (
        Failure.MIGRATION_ERROR,
        "it held its locks without a statement for a minute: let it compute before it begins",
    ),
}
# Classes of codes: the connection broke, the server shuts down, it has no connection left to give.
_BROKEN: Final = ("08", "57P", "53300")


def explain(error: BaseException, revision: str, url: str) -> MigrateError:
    """Say what env.py or a revision ran into; ``revision`` is "" before any has begun."""
    cause = getattr(error, "orig", None) or error
    where = f"revision {revision} failed" if revision else "env.py failed before any revision ran"
    text = f"{where}: {in_words(error, url)}"
    code = sqlstate(error)
    broken = code.startswith(_BROKEN) or getattr(error, "connection_invalidated", False)
    if code not in _HINTS and (broken or (not revision and _found_nobody(cause, code))):
        return MigrateError(
            Failure.UNREACHABLE,
            text,
            hint="the connection broke, or there was none; what was not finished is rolled back: "
            "run this again",
            revision=revision,
        )
    if not revision and is_about_a_lock(error):
        return MigrateError(
            Failure.LOCK_TIMEOUT,
            text,
            hint="another runner's env.py, say, waits for the same lock: run this again",
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


def in_words(error: BaseException, url: str) -> str:
    """Return what an exception says, without the URL's password and the values of any row."""
    cause = getattr(error, "orig", None) or error
    # Not the server's DETAIL, which quotes rows: the report is kept where many may read it.
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    words = " ".join((primary or str(cause)).split()) or type(cause).__name__
    return hide_password(url, f"{type(cause).__name__}: {words}")


def _found_nobody(cause: BaseException, code: str) -> bool:
    """Tell whether a driver has not even reached a server, which would have sent a code.

    psycopg's and psycopg2's have one class for that; asyncpg lets the socket's error through, which
    names no file.
    """
    if isinstance(cause, OSError):
        return cause.filename is None
    return not code and type(cause).__name__ == "OperationalError"
