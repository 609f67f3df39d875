"""Health checks: registered by name, run together, each with a time-out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

Check = Callable[[], Awaitable[object]]
"""Returning means healthy; raising means not, and the exception's text is the reason."""


class CheckFailedError(Exception):
    """Raise it in a check to fail it with a reason for people to read."""


@dataclass(frozen=True, slots=True)
class Health:
    """What a round of checks found: for each name the reason it failed, or ``None``."""

    reasons: Mapping[str, str | None]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(reason is None for reason in self.reasons.values())

    def as_dict(self) -> dict[str, dict[str, str]]:
        """Return the checks as the JSON body shows them."""
        return {
            name: {"status": "ok"} if reason is None else {"status": "failed", "reason": reason}
            for name, reason in self.reasons.items()
        }


async def run_checks(checks: Mapping[str, Check], *, within: float) -> Health:
    """Run all checks at once; one that is not done ``within`` seconds has failed."""
    reasons = await asyncio.gather(*(_run(check, within) for check in checks.values()))
    return Health(dict(zip(checks, reasons, strict=True)))


async def _run(check: Check, within: float) -> str | None:
    try:
        async with asyncio.timeout(within):
            await check()
    except CheckFailedError as error:
        return str(error) or "failed"
    except TimeoutError:
        return f"no answer within {within:g} s"
    except (Exception, SystemExit) as error:
        # Only the type: a driver's message may quote the URL it was given.
        return type(error).__name__
    return None
