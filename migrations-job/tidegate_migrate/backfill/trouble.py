"""What can go wrong with a batch: what another try may mend, and words for what it does not."""

from __future__ import annotations

from typing import Final

import psycopg

from tidegate.schema import Failure
from tidegate_migrate.backfill import progress
from tidegate_migrate.backfill.declaration import Declaration
from tidegate_migrate.failure import MigrateError

PASSING: Final = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.SerializationFailure,
)
"""What another try may mend."""
NOT_OF_THE_BATCH: Final = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.ReadOnlySqlTransaction,
)
"""What every command says in the same words."""

_BLOCKER = """
SELECT coalesce(nullif(a.application_name, ''), 'unnamed'), a.pid,
  extract(epoch FROM clock_timestamp() - a.xact_start)::float8
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.relation = to_regclass(%s) AND l.granted AND l.pid <> pg_backend_pid()
  AND l.mode <> 'AccessShareLock'
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY a.xact_start
LIMIT 1
"""


def in_the_way(connection: psycopg.Connection, name: str, error: psycopg.Error) -> str:
    """Say why a batch could not be done this time."""
    if isinstance(error, psycopg.errors.QueryCanceled):
        return "a batch took too long; trying a smaller one"
    if not isinstance(error, psycopg.errors.LockNotAvailable):
        return "a batch met another transaction; trying again"
    row = connection.execute(_BLOCKER, [name]).fetchone()
    if row is None:
        return "rows were locked; trying again"
    who, pid, seconds = row
    return (
        f"rows are locked, likely by {who} (backend {pid}, in its transaction for {seconds:.0f} s)"
    )


def gave_up(declaration: Declaration, error: psycopg.Error, reason: str) -> MigrateError:
    waited = progress.duration(declaration.pace.patience)
    if isinstance(error, psycopg.errors.QueryCanceled):
        return MigrateError(
            Failure.MIGRATION_ERROR,
            f"the backfill {declaration.name} found no batch small enough in {waited}",
            hint="see its plan with --dry-run; an index may be missing, or a row may need more "
            "than statement_timeout in [pace]",
        )
    return MigrateError(
        Failure.LOCK_TIMEOUT,
        f"the backfill {declaration.name} could not go on for {waited}: {reason}",
        hint="let that transaction end, or end its backend; then run this again: it goes on "
        "where it is",
    )


def failed(declaration: Declaration, error: psycopg.Error) -> MigrateError:
    words = error.diag.message_primary or " ".join(str(error).split())
    return MigrateError(
        Failure.MIGRATION_ERROR,
        f"a batch of the backfill {declaration.name} failed: {type(error).__name__}: {words}",
        hint="that batch is rolled back, the ones before it stay; mend the row and run it again, "
        "or mend the declaration and run it with --restart",
    )
