"""The closed list of what a SchemaGate's conditions can say.

``docs/operator.md`` has the same list with what to do about each; a test keeps the two equal.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from tidegate.schema import Failure

__all__ = ["MEANINGS", "OF_FAILURE", "Reason", "Type"]


class Type(StrEnum):
    """The conditions of a SchemaGate, in the order in which a release meets them."""

    READY = "Ready"
    MIGRATED = "Migrated"
    ROLLED_OUT = "RolledOut"


class Reason(StrEnum):
    """Why a condition is what it is: one word that scripts and alerts can match."""

    READY = "Ready"

    MIGRATED = "Migrated"
    NOTHING_TO_DO = "NothingToDo"
    MIGRATING = "Migrating"
    NO_MIGRATION_JOB = "NoMigrationJob"
    NO_REPORT = "NoReport"
    SETTINGS_INVALID = "SettingsInvalid"
    UNREACHABLE = "Unreachable"
    LOCK_TIMEOUT = "LockTimeout"
    INCOMPATIBLE = "Incompatible"
    LINT = "Lint"
    MIGRATION_ERROR = "MigrationError"
    TERMINATED = "Terminated"

    ROLLED_OUT = "RolledOut"
    ROLLING_OUT = "RollingOut"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    DEPLOYMENT_NOT_FOUND = "DeploymentNotFound"


MEANINGS: Final[dict[Reason, str]] = {
    Reason.READY: "The newest migration is done and every pod runs the newest release.",
    Reason.MIGRATED: "The newest migration Job applied revisions.",
    Reason.NOTHING_TO_DO: "The newest migration Job found every revision already applied.",
    Reason.MIGRATING: "The migration Job is on its way: its pod starts, runs, or is tried again.",
    Reason.NO_MIGRATION_JOB: "No migration Job of this gate exists, and none has reported before.",
    Reason.NO_REPORT: "The migration Job ended, but its pod left no report that can be read.",
    Reason.SETTINGS_INVALID: "The migration did not start: a setting is missing or wrong.",
    Reason.UNREACHABLE: "The migration could not connect to the database in time.",
    Reason.LOCK_TIMEOUT: "The migration waited too long for a lock that another run holds.",
    Reason.INCOMPATIBLE: "The database holds revisions that this image cannot work with.",
    Reason.LINT: "A pending revision would break or block what runs; none was applied.",
    Reason.MIGRATION_ERROR: "A revision failed; the revisions before it stay applied.",
    Reason.TERMINATED: "The migration was told to stop before it was done.",
    Reason.ROLLED_OUT: "Every pod of the Deployment runs its newest template.",
    Reason.ROLLING_OUT: "The Deployment is still replacing pods, or waits to start.",
    Reason.PROGRESS_DEADLINE_EXCEEDED: "The Deployment made no progress within its deadline.",
    Reason.DEPLOYMENT_NOT_FOUND: "The namespace has no Deployment of the name in the gate's spec.",
}

OF_FAILURE: Final[dict[Failure, Reason]] = {
    Failure.SETTINGS: Reason.SETTINGS_INVALID,
    Failure.UNREACHABLE: Reason.UNREACHABLE,
    Failure.LOCK_TIMEOUT: Reason.LOCK_TIMEOUT,
    Failure.INCOMPATIBLE: Reason.INCOMPATIBLE,
    Failure.LINT: Reason.LINT,
    Failure.MIGRATION_ERROR: Reason.MIGRATION_ERROR,
    Failure.TERMINATED: Reason.TERMINATED,
}
