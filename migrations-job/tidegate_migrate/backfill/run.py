"""Walks one backfill to its end: batch by batch, resting between them, making way for others."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import psycopg

from tidegate.schema import Failure
from tidegate_migrate import database
from tidegate_migrate.backfill import batch, keyrange, pace, table, throttle, trouble
from tidegate_migrate.backfill.declaration import Declaration
from tidegate_migrate.backfill.keyrange import Key
from tidegate_migrate.backfill.progress import Meter
from tidegate_migrate.backfill.screen import Screen
from tidegate_migrate.backfill.session import alone, connect
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.settings import Settings

_LOOK_EVERY: Final = 0.5  # seconds between looks at the load
_PAUSE: Final = 1.0
_LOSSES: Final = 3  # connections lost one after another, without a batch in between

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Summary:
    """A backfill that is finished. ``seconds`` is the time of this run.

    ``before`` says that an earlier run had finished it already.
    """

    name: str
    rows_seen: int
    rows_changed: int
    seconds: float
    before: bool = False


def run(settings: Settings, declaration: Declaration, *, restart: bool, screen: Screen) -> Summary:
    """Do what is left of a backfill, through lost connections, and return when none is left.

    Raises:
        MigrateError: it cannot go on, or was told to stop; the rows done so far stay done, and
            the next run goes on behind them.
    """
    began = time.monotonic()
    walk = _Walk(declaration, screen, restart)
    losses = 0
    try:
        while True:
            batches = walk.batches
            with connect(settings, declaration.name, screen) as connection:
                try:
                    with database.errors_in_words():
                        with alone(connection, declaration, settings, screen):
                            walk.go(connection)
                            break
                except MigrateError as error:
                    losses = 1 if walk.batches > batches else losses + 1
                    if not connection.broken or losses > _LOSSES:
                        raise
                    screen.say(f"{error.message}; connecting again")
    except KeyboardInterrupt:  # SIGTERM, or Ctrl-C
        raise MigrateError(
            Failure.TERMINATED,
            f"the backfill {declaration.name} was told to stop with {walk.entry.rows_seen:,} rows "
            "done",
            hint="run it again: it goes on behind them",
        ) from None
    finally:
        screen.close()
    return Summary(
        declaration.name,
        walk.entry.rows_seen,
        walk.entry.rows_changed,
        round(time.monotonic() - began, 3),
        before=not walk.batches,
    )


@dataclass(slots=True)
class _Walk:
    """One run along the key, over however many connections it takes."""

    declaration: Declaration
    screen: Screen
    restart: bool
    entry: table.Entry = field(default_factory=lambda: table.Entry(""))
    batches: int = 0
    _rows: int = 0
    _look_at: float = 0.0
    _meter: Meter | None = None

    def __post_init__(self) -> None:
        self._rows = pace.first_size(self.declaration.pace)

    def go(self, connection: psycopg.Connection) -> None:
        """Go to the end of the key."""
        key = keyrange.find(connection, self.declaration.table, self.declaration.key)
        self._begin(connection)
        if self.entry.finished_at:
            return
        if self._meter is None:
            self._meter = self._patiently(connection, key, lambda: self._measure(connection, key))
        while not self.entry.finished_at:
            self._let_others_go_first(connection)
            began = time.monotonic()
            self._one_batch(connection, key)
            self._show()
            if not self.entry.finished_at:
                time.sleep(pace.rest(self.declaration.pace, time.monotonic() - began))

    def _begin(self, connection: psycopg.Connection) -> None:
        name, checksum = self.declaration.name, self.declaration.checksum
        entry = None if self.restart else table.read(connection, name)
        if entry is None:
            self.entry = table.begin(connection, name, checksum)
            self.restart = False  # once: a lost connection goes on like any other
            if not throttle.sees_others(connection):
                self.screen.say(
                    "this role sees no other role's sessions and no standbys, so it cannot make "
                    "way for them; a GRANT of pg_read_all_stats lets it"
                )
            return
        if entry.checksum != checksum:
            raise MigrateError(
                Failure.INCOMPATIBLE,
                f"the backfill {name} is not the one that was begun under this name "
                f"({entry.rows_seen:,} rows are done)",
                hint="give the new one a name of its own, or begin anew with --restart",
            )
        self.entry = entry
        if not entry.finished_at:
            self.screen.say(f"{name} goes on behind {entry.rows_seen:,} rows")

    def _measure(self, connection: psycopg.Connection, key: Key) -> Meter:
        return Meter(
            self.declaration.name,
            key,
            keyrange.ends(connection, key),
            keyrange.estimated_rows(connection, key),
            self.entry,
            time.monotonic(),
        )

    def _one_batch(self, connection: psycopg.Connection, key: Key) -> None:
        seen = self.entry.rows_seen

        def attempt() -> tuple[table.Entry, float]:
            began = time.monotonic()
            entry = batch.change(
                connection, self.declaration, key, after=self.entry.last_key, rows=self._rows
            )
            return entry, time.monotonic() - began

        self.entry, seconds = self._patiently(connection, key, attempt)
        self.batches += 1
        if not self.entry.finished_at:  # the last one is as small as it happens to be
            rows = self.entry.rows_seen - seen
            self._rows = pace.next_size(self.declaration.pace, rows, seconds)

    def _patiently(
        self, connection: psycopg.Connection, key: Key, attempt: Callable[[], _Answer]
    ) -> _Answer:
        """Try again what another session stands in the way of, with fewer rows each time."""
        rules = self.declaration.pace
        give_up = time.monotonic() + rules.patience
        tries = 0
        while True:
            try:
                return attempt()
            except psycopg.Error as error:
                if connection.broken or isinstance(error, trouble.NOT_OF_THE_BATCH):
                    raise
                if not isinstance(error, trouble.PASSING):
                    raise trouble.failed(self.declaration, error) from None
                reason = trouble.in_the_way(connection, key.table, error)
                if time.monotonic() >= give_up:
                    raise trouble.gave_up(self.declaration, error, reason) from None
            self._rows = pace.smaller(rules, self._rows)
            self._show(paused=reason)
            time.sleep(pace.back_off(tries, random.random()))  # noqa: S311 - spreads tries
            tries += 1

    def _let_others_go_first(self, connection: psycopg.Connection) -> None:
        if time.monotonic() < self._look_at:
            return
        limits = self.declaration.limits
        while reason := throttle.reason_to_pause(throttle.look(connection), limits):
            self._show(paused=reason)
            time.sleep(_PAUSE)
        self._look_at = time.monotonic() + _LOOK_EVERY

    def _show(self, paused: str | None = None) -> None:
        if self._meter:
            now = time.monotonic()
            self.screen.show(self._meter.read(self.entry, now, self._rows, paused))
