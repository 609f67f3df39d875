"""The schema check: may this image serve with the schema that the database has?"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from prometheus_client import Gauge
from sqlalchemy.exc import SQLAlchemyError

from tidegate.check_connection import CheckConnections
from tidegate.database import read_applied
from tidegate.health import CheckFailedError
from tidegate.lifecycle import Lifecycle
from tidegate.schema import Difference, Manifest, Verdict, compare, judge
from tidegate.settings import SettingsError

logger = logging.getLogger(__name__)

_METRIC: Final = Gauge(
    "tidegate_schema_verdict",
    "1 for the verdict on the database's schema that was last seen, 0 for the others.",
    ["verdict"],
    multiprocess_mode="livemostrecent",
)

_WAY_OUT: Final = {
    Verdict.BEHIND: "run `tidegate migrate up` with this image",
    Verdict.AHEAD_INCOMPATIBLE: "release an image that ships it",
    Verdict.UNKNOWN: "release an image that ships it",
}


def read_manifest(path: Path) -> Manifest:
    """Read the revisions this image ships.

    Raises:
        SettingsError: the file is missing or is no manifest.
    """
    try:
        return Manifest.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"TIDEGATE_MANIFEST: {path}: {error}; write it with `tidegate migrate manifest`"
        ) from None


class SchemaCheck:
    """Judges at every call; refuses only until the process was ready once."""

    def __init__(
        self,
        manifest: Manifest,
        connections: CheckConnections,
        lifecycle: Lifecycle,
        *,
        within: float,
    ) -> None:
        self._manifest = manifest
        self._connections = connections
        self._lifecycle = lifecycle
        self._within = within
        self._last: Verdict | None = None

    async def __call__(self) -> None:
        """Fail with the verdict, the revision it is about and the way out."""
        verdict, words = await self.look()
        if not verdict.permits_serving and not self._lifecycle.was_ready:
            raise CheckFailedError(words)

    async def look(self) -> tuple[Verdict, str]:
        """Judge, and set the metric; return the verdict and what it means in words.

        Once ready, a process is not made unready by a changed verdict: people hear of it here.
        """
        difference, why = None, ""
        where = self._manifest.version_table
        try:
            # Its own time-out, below the check's: a table that is locked is a verdict, too.
            async with asyncio.timeout(self._within), self._connections.connect() as connection:
                difference = compare(self._manifest, await read_applied(connection, where))
        except (SQLAlchemyError, OSError) as error:  # a TimeoutError is an OSError
            # Only the type: a driver's message may quote the URL it was given.
            why = type(getattr(error, "orig", None) or error).__name__
        verdict = judge(difference)
        for each in Verdict:
            _METRIC.labels(each.value).set(each is verdict)
        words = (
            _explain(verdict, difference)
            if difference
            else f"{verdict}: the version and history tables cannot be read ({why})"
        )
        if self._lifecycle.was_ready and verdict is not self._last:
            level = logging.INFO if verdict.permits_serving else logging.ERROR
            logger.log(level, "the schema's verdict has changed, and this serves on: %s", words)
        self._last = verdict
        return verdict, words


def _explain(verdict: Verdict, difference: Difference) -> str:
    if verdict.permits_serving:
        return verdict.value
    names = difference.pending if verdict is Verdict.BEHIND else difference.ahead
    side = "lacks" if verdict is Verdict.BEHIND else "holds unshipped"
    return f"{verdict}: the database {side} {', '.join(sorted(names))}; {_WAY_OUT[verdict]}"
