"""The two time-outs of the session that migrates, of which a revision may have its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from tidegate_migrate.place import literal
from tidegate_migrate.session import milliseconds

# What may leave a setting of the session behind, a time-out among them; better one too many.
_SETS: Final = re.compile(r"\b(?:SET|RESET|DISCARD|set_config)\b", re.IGNORECASE)
_NAMED: Final = re.compile(r"\b(?:lock|statement)_timeout\b", re.IGNORECASE)
_NOW: Final = """
SELECT name, CASE setting WHEN '0' THEN '0' ELSE setting || 'ms' END
FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout')
"""


class Timeouts:
    """Knows the time-outs that hold outside of blocks, and sets others for a while.

    ``query`` runs SQL over the connection that migrates. ``touched`` tells whether the revision
    may have set something; only then the server is asked. ``has_its_own`` tells whether that
    was a time-out, as far as the text shows.
    """

    def __init__(self, query: Callable[[str], Sequence[Any]]) -> None:
        self._query = query
        self._outside: dict[str, str] = {}
        self.touched = False
        self.has_its_own = False

    def hold(self, lock_timeout: float, statement_timeout: float) -> None:
        """Take note, when a revision begins, of what is set; in seconds, 0 means none."""
        self._outside = _written(lock_timeout, statement_timeout)
        self.touched = self.has_its_own = False

    def met(self, statement: str) -> None:
        """Take note of a statement of the revision."""
        if _SETS.search(statement):
            self.touched = True
            self.has_its_own |= _NAMED.search(statement) is not None

    @contextmanager
    def within(
        self, lock_timeout: float, statement_timeout: float, *, whatever_it_set: bool = False
    ) -> Iterator[None]:
        """Set other time-outs, in seconds, and then again what was set before.

        One that the revision has set itself stays as it is, but for ``whatever_it_set``.
        """
        own = self._set_by_the_revision()
        wanted = _written(lock_timeout, statement_timeout)
        self._set(wanted if whatever_it_set else wanted | own)
        try:
            yield
        finally:
            with suppress(Exception):  # where the connection broke
                self._set(self._outside | own)

    def _set_by_the_revision(self) -> dict[str, str]:
        if not self.touched:
            return {}
        return {name: now for name, now in self._query(_NOW) if now != self._outside[name]}

    def _set(self, values: dict[str, str]) -> None:
        calls = (f"set_config('{name}', {literal(to)}, false)" for name, to in values.items())
        self._query(f"SELECT {', '.join(calls)}")


def _written(lock_timeout: float, statement_timeout: float) -> dict[str, str]:
    return {
        "lock_timeout": milliseconds(lock_timeout),
        "statement_timeout": milliseconds(statement_timeout),
    }
