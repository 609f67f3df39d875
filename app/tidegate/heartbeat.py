"""A row in ``tidegate_instances`` that says: this process runs, and ships these revisions.

Before a contract revision the migration runner looks there for whoever it would break. The
runner makes the table; where it is missing, there is nobody to tell and nothing to complain of.
All times are the database's own: the clock of a pod proves nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from tidegate.check_connection import CheckConnections
from tidegate.database import qualified
from tidegate.health import Check
from tidegate.schema import GONE_AFTER, INSTANCES_TABLE, Manifest, own_table

logger = logging.getLogger(__name__)

EVERY: Final = 15.0
"""Seconds between two heartbeats, give or take a fifth: four fit into the minute that counts."""

_AGAIN: Final = 3.0  # seconds after one that failed: who is back must be seen soon
_WITHIN: Final = 5.0  # seconds that one may take
_LAST_WITHIN: Final = 1.0  # seconds to say goodbye: the application's own shutdown waits for it
_COMPLAIN_EVERY: Final = 60.0

# One statement of the simple protocol: it needs no prepared statement and no second round trip,
# so it works through PgBouncer in transaction mode, however the driver is set up. In a block, the
# server does not even look for the table before it is known to be there.
#
# A row from the future (the clock was set back) is brought to the present by whoever comes
# first: if its process lives, it will be seen again; if not, it is gone a minute from now.
_BEAT: Final = """
DO $heartbeat$ BEGIN
IF to_regclass({name}) IS NOT NULL THEN
  WITH pruned AS (
    DELETE FROM {table} WHERE seen_at < now() - interval '1 day' AND instance <> {instance}
  ), from_the_future AS (
    UPDATE {table} SET seen_at = now(), unbroken_since = now()
    WHERE seen_at > now() + interval '5 seconds' AND instance <> {instance}
  )
  INSERT INTO {table} AS mine (instance, heads, image, started_at, unbroken_since, seen_at)
  VALUES ({instance}, {heads}, {image}, now(), now(), now())
  ON CONFLICT (instance) DO UPDATE SET seen_at = now(), unbroken_since = CASE
    WHEN mine.seen_at BETWEEN now() - interval '{gap} seconds' AND now() THEN mine.unbroken_since
    ELSE now()
  END;
END IF;
END $heartbeat$
"""

_GOODBYE: Final = """
DO $heartbeat$ BEGIN
IF to_regclass({name}) IS NOT NULL THEN
  DELETE FROM {table} WHERE instance = {instance};
END IF;
END $heartbeat$
"""


class Heartbeat:
    """Reports this process while :meth:`beating` is open. It never raises into the service.

    Args:
        connections: lends a connection that does not queue behind an exhausted pool.
        manifest: the revisions that the image ships, and where their versions are kept: the
            table lies beside them.
        look: is called with every beat, to judge the schema. A process that was stopped and
            wakes up on a schema that no longer suits it finds out by this.
        wrap: is put around each beat.
    """

    def __init__(
        self,
        connections: CheckConnections,
        manifest: Manifest,
        look: Check,
        *,
        wrap: Callable[[Check], Check] | None = None,
    ) -> None:
        self._connections = connections
        self._manifest = manifest
        schema, _, versions = manifest.version_table.rpartition(".")
        self._table = qualified(schema, own_table(INSTANCES_TABLE, versions))
        self._look = look
        self._wrap = wrap
        self._quiet_until = float("-inf")

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Report from now on, and take the row away at the end."""
        # For each start anew: two processes, forked or in like pods, must never share a row.
        name = f"{os.uname().nodename}/{os.getpid()}/{secrets.token_hex(3)}"
        table = self._table
        heads = map(_literal, sorted(self._manifest.heads))
        words = {
            "name": _literal(table),
            "table": table,
            "instance": _literal(name),
            "heads": f"ARRAY[{', '.join(heads)}]::text[]",
            "image": _literal(os.environ.get("TIDEGATE_IMAGE", "")),
            "gap": GONE_AFTER / 2,
        }
        statement = _BEAT.format(**words)

        async def beat() -> None:
            async with asyncio.timeout(_WITHIN):
                await self._execute(statement)
            await self._look()

        task = asyncio.create_task(self._go_on(self._wrap(beat) if self._wrap else beat))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task}, timeout=_LAST_WITHIN)
            # Without it the row counts for a minute: nothing worth a complaint.
            with suppress(Exception):
                async with asyncio.timeout(_LAST_WITHIN):
                    await self._execute(_GOODBYE.format(**words))

    async def _go_on(self, beat: Check) -> None:
        while True:
            pause = EVERY
            try:
                await beat()
            except Exception as error:
                pause = _AGAIN
                self._complain(error)
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads pods

    async def _execute(self, statement: str) -> None:
        async with self._connections.connect() as connection:
            # Of psycopg's connections, which would else begin a transaction.
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            driver: Any = (await connection.get_raw_connection()).driver_connection
            try:
                await driver.execute(statement)
            except BaseException:
                # SQLAlchemy was bypassed: it cannot know whether the connection is still good.
                await connection.invalidate()
                raise

    def _complain(self, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._quiet_until:
            return
        self._quiet_until = now + _COMPLAIN_EVERY
        # Only the type: a driver's message may quote the URL it was given.
        logger.warning(
            "the heartbeat cannot be written (%s): after a minute without one, `tidegate migrate` "
            "takes this process for gone; see that the database answers and that the service's "
            "role may write to %s",
            type(getattr(error, "orig", None) or error).__name__,
            self._table,
        )


def _literal(text: str) -> str:
    """Quote a text for SQL, whatever standard_conforming_strings says."""
    clean = text.encode("utf-8", "replace").decode().replace("\0", "")
    return "E'" + clean.replace("\\", "\\\\").replace("'", "''").replace("$", "\\x24") + "'"
