"""The runner's own connection: one, in autocommit, past any pooler."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tidegate.schema import Failure
from tidegate_migrate.failure import MigrateError

_RETRY_EVERY: Final = 1.0  # seconds
_SHORT: Final = 5  # characters
# What no waiting mends. A role or a database that is missing may still be made.
_REFUSALS: Final = ("authentication failed", "no pg_hba.conf entry")
_FOR_ASYNCPG: Final = {
    "async_fallback",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "statement_cache_size",
}

# The last from PostgreSQL 14 on; a role may have one for the sake of the service.
_STEADY: Final = """
SELECT set_config(name, value, false)
FROM (VALUES ('lock_timeout', %s), ('idle_session_timeout', '0')) AS wanted (name, value)
WHERE current_setting(name, true) IS NOT NULL
"""


def direct_url(environ: Mapping[str, str]) -> str:
    """Return the URL for migrations: DIRECT_URL, else DATABASE_URL.

    Raises:
        MigrateError: neither is set, or it does not name a PostgreSQL database.
    """
    for name in ("DIRECT_URL", "DATABASE_URL"):
        if url := environ.get(name, "").strip():
            break
    else:
        raise MigrateError(
            Failure.SETTINGS,
            "DATABASE_URL is not set, so there is no database to migrate",
            hint="set DATABASE_URL=postgresql://user:password@host:5432/database",
        )
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.split("+")[0] not in {"postgres", "postgresql"}:
        raise MigrateError(
            Failure.SETTINGS,
            f"{name} is not a PostgreSQL URL (it starts with {scheme.split(':')[0][:20]!r})",
            hint=f"set {name}=postgresql://user:password@host:5432/database",
        )
    # Nothing of the URL is quoted here: the part that does not parse may be the password.
    try:
        conninfo_to_dict(libpq_url(url))
        well_formed = _is_whole(url)
    except (ValueError, psycopg.ProgrammingError):
        well_formed = False
    if not well_formed:
        raise MigrateError(
            Failure.SETTINGS,
            f"{name} does not parse as postgresql://user:password@host:5432/database",
            hint="percent-encode what is not a letter or digit in user and password "
            "(for example / as %2F), and check the port and the options behind the question mark",
        )
    return url


def _is_whole(url: str) -> bool:
    """Tell whether the user's part ends where it seems to: an @ further on says it does not."""
    rest = url.partition("://")[2]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    path = rest[len(authority) :].partition("?")[0]
    port = urlsplit(url).port  # raises a ValueError for one that is no number
    return authority.count("@") <= 1 and "@" not in path and (port is None or port > 0)


def libpq_url(url: str) -> str:
    """Return the URL as libpq reads it, without what is meant for SQLAlchemy or asyncpg."""
    parts = urlsplit(url)
    query = [
        ("sslmode" if name == "ssl" else name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name not in _FOR_ASYNCPG
    ]
    rest = url.partition("://")[2].partition("?")[0]
    return f"postgresql://{rest}{'?' if query else ''}{urlencode(query, quote_via=quote)}"


@contextmanager
def errors_in_words() -> Iterator[None]:
    """Turn what the server answers to the runner's own statements into a reason and a hint.

    Raises:
        MigrateError: ``unreachable`` when the connection broke, ``lock-timeout`` when a table was
            locked, else ``settings``.
    """
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrateError(
            Failure.SETTINGS,
            f"the role of DATABASE_URL lacks a right: {_words(error)}",
            hint="let it own the database, or grant it CREATE and USAGE on the schema; to look "
            "only, USAGE on the schema and SELECT on the table",
        ) from None
    except psycopg.errors.ReadOnlySqlTransaction:
        raise MigrateError(
            Failure.SETTINGS,
            "the database is read-only",
            hint="name the primary, not a replica, in DATABASE_URL (or DIRECT_URL)",
        ) from None
    except psycopg.errors.LockNotAvailable:
        raise MigrateError(
            Failure.LOCK_TIMEOUT,
            "another transaction keeps the version table, or one of the runner's own beside it, "
            "locked",
            hint="let it end (pg_locks names it), then run this again",
        ) from None
    except psycopg.OperationalError as error:
        raise MigrateError(
            Failure.UNREACHABLE,
            f"the connection to the database broke: {_words(error)}",
            hint="what was not finished is rolled back; run this again",
        ) from None
    except psycopg.Error as error:
        raise MigrateError(
            Failure.SETTINGS,
            f"the database refused the runner: {_words(error)}",
            hint="mend what it says, then run this again",
        ) from None


def connect(
    url: str,
    *,
    timeout: float,
    application_name: str,
    say: Callable[[str], None],
) -> psycopg.Connection:
    """Connect in autocommit, waiting up to ``timeout`` seconds for a database that is not up.

    Raises:
        MigrateError: ``settings`` when the server refuses the user, ``unreachable`` when the
            time is over.
    """
    deadline = time.monotonic() + timeout
    told = False
    while True:
        try:
            return psycopg.connect(
                url,
                autocommit=True,
                application_name=application_name,
                connect_timeout=5,
            )
        except psycopg.OperationalError as error:
            reason = _gist(str(error))
            where = _place(url)
            refused = any(words in str(error) for words in _REFUSALS)
            if refused or ('role "' in reason and time.monotonic() >= deadline):
                raise MigrateError(
                    Failure.SETTINGS,
                    f"PostgreSQL at {where} refused the login: {reason}",
                    hint="check user and password in DATABASE_URL (or DIRECT_URL), and pg_hba.conf",
                ) from None
            if time.monotonic() >= deadline:
                raise MigrateError(
                    Failure.UNREACHABLE,
                    f"no database at {where} within {timeout:g} s: {reason}",
                    hint="check that it runs, its name and the network; then run this again",
                ) from None
        if not told:
            say(f"waiting up to {timeout:g} s for the database at {where}: {reason}")
            told = True
        time.sleep(min(_RETRY_EVERY, max(0.0, deadline - time.monotonic())))


def steady(connection: psycopg.Connection, *, lock_timeout: float) -> None:
    """Let no statement of a run's own connection queue for longer, and no idle time end it.

    ``lock_timeout`` is in seconds. Not for a connection that a pooler shares: it is the session's.
    """
    connection.execute(_STEADY, [f"{max(1, round(lock_timeout * 1000))}ms"])


def hide_password(url: str, text: str) -> str:
    """Return the text without the URL's password, should env.py or a driver have put it there."""
    password = urlsplit(url).password
    for form in filter(None, {password, unquote(password or "")}):
        # A short one is also a part of honest words.
        text = text.replace(form if len(form) > _SHORT else f":{form}@", "…")
    return text


def _place(url: str) -> str:
    """Return host, port and database of the URL, for a message."""
    parts = conninfo_to_dict(url)
    host = parts.get("host", "the local socket")
    return f"{host}:{parts.get('port', 5432)}/{parts.get('dbname', parts.get('user', ''))}"


def _words(error: psycopg.Error) -> str:
    return error.diag.message_primary or _gist(str(error))


def _gist(text: str) -> str:
    """Return the line that says most: the first, or of several tries the last one's."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "no reason given"
    several = lines[0].startswith("Multiple connection attempts")
    return (lines[-1] if several else lines[0]).removeprefix("connection failed: ")
