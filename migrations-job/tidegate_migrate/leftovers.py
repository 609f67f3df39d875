"""Runs a statement, and puts away what earlier tries of it have left half-done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from tidegate.schema import Failure
from tidegate_migrate import boundary
from tidegate_migrate.blockers import describe
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.indexes import builders, invalid_after, invalid_before
from tidegate_migrate.patience import Patience
from tidegate_migrate.repeated import detached_by

_LOOK_EVERY: Final = 0.2  # seconds, for the end of those who build


class Leftovers:
    """What is half-done in the way of a revision's statements.

    ``query`` runs SQL over the connection that migrates, outside of a transaction, and returns its
    rows; ``say`` tells a person.
    """

    def __init__(
        self, query: Callable[[str], Sequence[Any]], say: Callable[[str], None], revision: str
    ) -> None:
        self._query = query
        self._say = say
        self._revision = revision

    def run_among(self, statement: str, execute: Callable[[], None], patience: Patience) -> None:
        """Run a statement.

        Raises:
            MigrateError: ``lock-timeout``: somebody builds an index on the same table for longer
                than there is patience.
            Exception: what ``execute`` raises.
        """
        if (detachment := detached_by(statement)) and self._query(detachment.find_pending()):
            self._say(f"{self._revision}: finishing what an earlier try has left half-detached")
            self._query(detachment.finalize())
            return
        self._wait_for_builders(statement, patience)
        while invalid := self._rows(invalid_before(statement)):
            self._drop(invalid[0][0])
            self._wait_for_builders(statement, patience)
        execute()
        with suppress(Exception):  # it is done, and must not be done again for what it leaves
            for (name,) in self._rows(invalid_after(statement)):
                if not self._rows(builders(statement)):
                    self._drop(name)

    def _wait_for_builders(self, statement: str, patience: Patience) -> None:
        """Let whoever builds an index on the table come to the end.

        What they build is INVALID until then. And who queues behind them keeps them from it: they
        wait for every older transaction.
        """
        told: set[int] = set()
        while building := self._rows(builders(statement)):
            who = "; ".join(describe(*row) for row in building)
            if patience.left <= 0:
                raise MigrateError(
                    Failure.LOCK_TIMEOUT,
                    f"revision {self._revision} has waited for {patience.deadline:g} s for another "
                    f"index to be built on the same table, by {who}",
                    hint="let that end (or end it), then run this again",
                    revision=self._revision,
                )
            if not told >= {row[0] for row in building}:
                self._say(f"waiting for another index to be built on the same table, by {who}")
                told |= {row[0] for row in building}
            time.sleep(min(_LOOK_EVERY, patience.left))

    def _drop(self, name: str) -> None:
        self._say(f"{self._revision}: dropping {name}, which an earlier try left INVALID")
        self._query(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        boundary.reached("invalid index dropped")

    def _rows(self, query: str) -> Sequence[Any]:
        return self._query(query) if query else ()
