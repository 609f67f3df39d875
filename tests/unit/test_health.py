"""Checks: whatever one does, it is an answer."""

from __future__ import annotations

import asyncio

from tidegate.health import CheckFailedError, Health, run_checks


async def passes() -> str:
    return "nonsense that nobody reads"


async def fails() -> None:
    raise CheckFailedError("the cellar is flooded")


async def fails_without_words() -> None:
    raise CheckFailedError


async def raises() -> None:
    raise ValueError("with a secret in its text")


async def exits() -> None:
    raise SystemExit(3)


async def hangs() -> None:
    await asyncio.sleep(60)


async def test_each_check_is_told_apart_and_none_can_end_the_round() -> None:
    checks = {
        "passes": passes,
        "fails": fails,
        "silent": fails_without_words,
        "raises": raises,
        "exits": exits,
        "hangs": hangs,
    }
    health = await run_checks(checks, within=0.2)
    assert health.reasons == {
        "passes": None,
        "fails": "the cellar is flooded",
        "silent": "failed",
        "raises": "ValueError",
        "exits": "SystemExit",
        "hangs": "no answer within 0.2 s",
    }
    assert not health.ok


async def test_checks_run_at_once() -> None:
    async def slow() -> None:
        await asyncio.sleep(0.2)

    health = await asyncio.wait_for(run_checks({str(n): slow for n in range(50)}, within=5), 5)
    assert health.ok


def test_one_failure_without_words_is_a_failure() -> None:
    assert Health({}).ok
    assert not Health({"one": ""}).ok
