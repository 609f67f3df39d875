"""Checks: whatever one does, it is an answer; and many who ask cost one round."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.health import CheckFailedError, Checks, Health, Outcome


def make_checks(timeout: float = 5, cache: float = 0, **checks: Callable[[], object]) -> Checks:
    made = Checks(timeout=timeout, cache=cache)
    for name, check in checks.items():
        made.add(name, check)  # type: ignore[arg-type] # some are wrong on purpose
    return made


async def returns(value: object) -> object:
    return value


async def raises(error: BaseException) -> None:
    raise error


async def hangs() -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (partial(returns, None), None),
        (partial(returns, True), None),
        (partial(returns, False), "returned False; a check passes by"),
        (partial(returns, "fine"), "returned an object of type str; a check passes by"),
        (partial(returns, 1), "returned an object of type int; a check passes by"),
        (partial(raises, CheckFailedError("the cellar is flooded")), "the cellar is flooded"),
        (partial(raises, CheckFailedError()), "failed"),
        (partial(raises, ValueError("secret-word")), "ValueError"),
        (partial(raises, SystemExit(3)), "SystemExit"),
        (partial(raises, KeyboardInterrupt()), "KeyboardInterrupt"),
        (partial(raises, asyncio.CancelledError()), "CancelledError"),
        (partial(raises, TimeoutError()), "TimeoutError"),
        (hangs, "no answer within 0.2 s"),
    ],
)
async def test_whatever_a_check_does_is_an_answer_and_leaves_the_others_alone(
    check: Callable[[], Awaitable[object]], reason: str | None
) -> None:
    health = await make_checks(0.2, check=check, other=partial(returns, None)).judge()
    said = health.outcomes["check"].reason
    assert said == reason or (said and reason and said.startswith(reason))
    assert "secret-word" not in str(said)
    assert health.may_serve is (reason is None)
    assert health.outcomes["other"].status == "ok"


async def test_a_check_that_cannot_be_cancelled_holds_up_nobody_and_is_not_run_twice() -> None:
    cancelled, let_go = asyncio.Event(), asyncio.Event()
    runs = 0

    async def clings() -> None:
        nonlocal runs
        runs += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            await let_go.wait()

    checks = make_checks(0.05, clings=clings)
    assert (await checks.judge()).outcomes["clings"].reason == "no answer within 0.05 s"
    await asyncio.wait_for(cancelled.wait(), 5)
    reason = (await checks.judge()).outcomes["clings"].reason
    assert reason == "it ran out of time before, and has not ended since"
    assert runs == 1
    let_go.set()


async def test_checks_run_at_once() -> None:
    ready = asyncio.Barrier(20)

    async def waits_for_the_others() -> None:
        await ready.wait()

    checks = make_checks()
    for number in range(20):
        checks.add(str(number), waits_for_the_others)
    assert (await checks.judge()).status == "ok"


class Counted:
    """An async callable object, slow enough to be asked meanwhile."""

    runs = 0

    async def __call__(self) -> None:
        self.runs += 1
        await asyncio.sleep(0.01)


async def test_many_who_ask_at_once_share_one_round_even_if_the_first_goes_away() -> None:
    checks = make_checks(check=(check := Counted()))
    asked = [asyncio.create_task(checks.judge()) for _ in range(50)]
    await asyncio.sleep(0)
    asked[0].cancel()
    answers = await asyncio.gather(*asked[1:])
    assert all(answer.may_serve for answer in answers)
    assert check.runs == 1


@pytest.mark.parametrize(("cache", "runs"), [(60, 1), (0, 2)])
async def test_an_answer_is_given_again_for_as_long_as_it_is_cached(
    cache: float, runs: int
) -> None:
    checks = make_checks(cache=cache, check=(check := Counted()))
    assert (await checks.judge()).may_serve
    assert (await checks.judge()).may_serve
    assert check.runs == runs


async def test_a_check_is_logged_when_it_begins_to_fail_and_when_it_passes_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing = True

    async def check() -> None:
        if failing:
            raise CheckFailedError("the cellar is flooded")

    caplog.set_level("INFO", "tidegate.health")
    checks = make_checks(cellar=check)
    await checks.judge()
    await checks.judge()
    failing = False
    await checks.judge()
    assert caplog.messages == [
        "health check cellar is failed: the cellar is flooded",
        "health check cellar passes again",
    ]


def not_async() -> None:
    """What people bring from other libraries."""


async def yields() -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize("check", [not_async, lambda: hangs(), yields, None])
def test_what_is_no_async_function_is_refused_at_once(check: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="'mine' is no async function; write it as `async def`"):
        make_checks(mine=check)


@given(st.dictionaries(st.text(), st.tuples(st.none() | st.text(), st.booleans())))
def test_the_status_is_the_worst_that_a_check_says(
    found: dict[str, tuple[str | None, bool]],
) -> None:
    health = Health({name: Outcome(why, 0, blocking) for name, (why, blocking) in found.items()})
    failed = [blocking for why, blocking in found.values() if why is not None]
    expected = "unready" if any(failed) else "degraded" if failed else "ok"
    assert health.status == expected
    assert health.may_serve is not any(failed)
    for name, (why, _) in found.items():
        assert health.as_dict()[name].get("reason") == why
