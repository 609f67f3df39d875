"""Health checks: run together, each with a time-out, and one round for all who ask at once."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final

from prometheus_client import Gauge

logger = logging.getLogger(__name__)

Check = Callable[[], Awaitable[object]]
"""An async function without parameters. Returning None or True means healthy, raising means not."""

# The answer that a probe saw last, whichever worker gave it.
_METRIC: Final = Gauge(
    "tidegate_health_check",
    "1 if the check passed when it was last asked, 0 if not.",
    ["check"],
    multiprocess_mode="livemostrecent",
)


_LONGEST_REASON: Final = 1000  # characters


class CheckFailedError(Exception):
    """Raise it in a check to fail it with a reason for people to read."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check said."""

    reason: str | None
    """Why it failed; ``None`` if it passed."""
    seconds: float = 0.0
    blocking: bool = True

    @property
    def status(self) -> str:
        """``ok``, ``failed`` (nothing may be served) or ``degraded`` (serving goes on)."""
        if self.reason is None:
            return "ok"
        return "failed" if self.blocking else "degraded"


@dataclass(frozen=True, slots=True)
class Health:
    """What a round of checks found, by name."""

    outcomes: Mapping[str, Outcome]

    @property
    def status(self) -> str:
        """``ok``, ``degraded`` or ``unready``: the worst that a check says."""
        found = {outcome.status for outcome in self.outcomes.values()}
        return "unready" if "failed" in found else "degraded" if "degraded" in found else "ok"

    @property
    def may_serve(self) -> bool:
        """Whether every serve-blocking check passed."""
        return self.status != "unready"

    def as_dict(self) -> dict[str, dict[str, str | float]]:
        """Return the checks as the JSON body shows them."""
        return {
            name: {
                "status": outcome.status,
                **({} if outcome.reason is None else {"reason": outcome.reason}),
                "seconds": round(outcome.seconds, 4),
            }
            for name, outcome in self.outcomes.items()
        }


class Checks:
    """The registered checks. All but :meth:`add` belongs on the service's event loop.

    Args:
        timeout: seconds that one check may take.
        cache: seconds for which an answer is given again, so that probes cannot stampede a
            database.
        wrap: is put around each check that is added.
    """

    def __init__(
        self, *, timeout: float, cache: float, wrap: Callable[[Check], Check] | None = None
    ) -> None:
        self.timeout = timeout
        self._cache = cache
        self._wrap = wrap
        self._checks: dict[str, tuple[Check, bool]] = {}
        self._runs: dict[str, asyncio.Task[str | None]] = {}
        self._round: asyncio.Task[Health] | None = None
        self._health = Health({})
        self._fresh_until = float("-inf")

    def add(self, name: str, check: Check, *, blocking: bool = True) -> None:
        """Register ``check``; the same name again replaces it.

        Raises:
            TypeError: it is no async function.
        """
        if not any(map(inspect.iscoroutinefunction, (check, getattr(check, "__call__", None)))):  # noqa: B004 - an object may have an async __call__
            raise TypeError(
                f"the health check {name!r} is no async function; write it as `async def`, and "
                "call what blocks in it with `await asyncio.to_thread(...)`"
            )
        self._checks[name] = self._wrap(check) if self._wrap else check, blocking

    async def judge(self) -> Health:
        """Ask all checks at once; who asks meanwhile or soon afterwards gets the same answer."""
        if monotonic() < self._fresh_until:
            return self._health
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._ask_all())
        # Shielded: who loses patience must not cancel it for the others.
        return await asyncio.shield(self._round)

    async def _ask_all(self) -> Health:
        outcomes = await asyncio.gather(*map(self._ask, self._checks))
        before, self._health = self._health, Health(dict(zip(self._checks, outcomes, strict=True)))
        self._fresh_until = monotonic() + self._cache
        _report(before, self._health)
        return self._health

    async def _ask(self, name: str) -> Outcome:
        check, blocking = self._checks[name]
        started = monotonic()
        run = self._runs.get(name)
        if run and not run.done():  # not once more: they would pile up
            return Outcome("it ran out of time before, and has not ended since", 0.0, blocking)
        run = self._runs[name] = asyncio.create_task(_why_unhealthy(check))
        # Unlike asyncio.timeout, this returns even if the check does not let itself be cancelled.
        done, _ = await asyncio.wait({run}, timeout=self.timeout)
        run.cancel()
        reason = run.result() if done else f"no answer within {self.timeout:g} s"
        return Outcome(reason, monotonic() - started, blocking)


async def _why_unhealthy(check: Check) -> str | None:
    try:
        said = await check()
    except CheckFailedError as error:
        return _tell(error) or "failed"
    except BaseException as error:  # SystemExit, too: it would end the service
        # Only the type: a driver's message may quote the URL it was given.
        return type(error).__name__
    if said is None or said is True:
        return None
    what = "False" if said is False else f"an object of type {type(said).__name__}"
    return f"returned {what}; a check passes by returning None or True and fails by raising"


def _tell(error: CheckFailedError) -> str:
    """Return its text as an answer can hold it: a check must not fail the others' answer."""
    try:
        return str(error).encode("utf-8", "replace").decode()[:_LONGEST_REASON]
    except Exception as fault:
        return f"{type(error).__name__}, whose text raises {type(fault).__name__}"


def _report(before: Health, now: Health) -> None:
    for name, outcome in now.outcomes.items():
        _METRIC.labels(name).set(outcome.reason is None)
        last = before.outcomes.get(name, Outcome(None)).reason
        if outcome.reason and outcome.reason != last:
            logger.warning("health check %s is %s: %s", name, outcome.status, outcome.reason)
        elif last and not outcome.reason:
            logger.info("health check %s passes again", name)
