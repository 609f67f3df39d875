"""Payments, against a provider that hangs, fails and answers garbage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.database import transaction
from orders.core.errors import ConflictError
from orders.models import Order, Payment
from orders.outbound.circuit import Policy
from orders.outbound.payment_answers import Outcome, Verdict
from orders.outbound.payment_provider import PaymentProvider, open_provider
from orders.repositories import payments as repository
from orders.services import payments
from tests.orders.conftest import Live, settings_of
from tests.orders.factories import make_order, make_product, make_user
from tests.orders.payment_server import (
    Answer,
    Asked,
    PaymentServer,
    as_json,
    authorise,
    authorise_but_fail,
    decline,
    dribble,
    hang,
    hang_up,
    http,
    payment_server,
    said,
    saying,
)

Open = Callable[..., AbstractAsyncContextManager[PaymentProvider | None]]


@pytest.fixture
async def server() -> AsyncIterator[PaymentServer]:
    async with payment_server() as running:
        yield running


def opened(server: PaymentServer, **settings: Any) -> AbstractAsyncContextManager[Any]:  # noqa: ANN401
    policy = settings.pop("policy", None)
    wanted = {"payments_url": server.url, "payments_timeout": 3.0, **settings}
    return open_provider(settings_of("postgresql://nobody@localhost/none", **wanted), policy)


async def ask(provider: PaymentProvider, key: UUID | None = None) -> Outcome:
    return await provider.authorise(key or uuid4(), uuid4(), 450, "pm_card")


def calls(outcome: str) -> float:
    return REGISTRY.get_sample_value("orders_payment_calls_total", {"outcome": outcome}) or 0.0


async def test_an_honest_provider_is_asked_once_with_key_token_and_trace(
    server: PaymentServer,
) -> None:
    key, before = uuid4(), calls("authorised")
    async with opened(server, payments_token="secret") as provider:
        outcome = await ask(provider, key)
    (asked,) = server.asked
    assert outcome == Outcome(Verdict.AUTHORISED, reference=server.authorised[str(key)])
    assert asked.headers["authorization"] == "Bearer secret"
    assert (asked.body["amount_cents"], asked.body["payment_method_id"]) == (450, "pm_card")
    assert calls("authorised") == before + 1


async def test_a_declined_payment_is_sure_and_not_asked_again(server: PaymentServer) -> None:
    server.answer = decline
    async with opened(server) as provider:
        outcome = await ask(provider)
    assert (outcome.verdict, outcome.reason) == (Verdict.DECLINED, "insufficient funds")
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [400, 409, 422])
async def test_what_is_wrong_with_one_payment_does_not_keep_the_others_from_being_asked_about(
    server: PaymentServer, status: int
) -> None:
    server.answer = saying(http(status, b"{}", "application/json"))
    async with opened(server, policy=Policy(failures=2, rest=60.0)) as provider:
        for _ in range(3):
            assert (await ask(provider)).verdict is not Verdict.AUTHORISED
        assert len(server.asked) == 3
        server.answer = authorise
        assert (await ask(provider)).verdict is Verdict.AUTHORISED


async def endless(_: PaymentServer, asked: Asked) -> bytes:
    return http(201, b" " * 200_000 + as_json(201, said(asked)), "application/json")


async def for_another_order(_: PaymentServer, asked: Asked) -> bytes:
    return as_json(201, said(asked, order_id=str(uuid4())))


@pytest.mark.parametrize(
    "answer",
    [
        authorise_but_fail,
        hang_up,
        endless,
        for_another_order,
        saying(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        saying(http(200, b"<html>Please sign in to the WiFi</html>", "text/html")),
        saying(http(201, b'{"status": "authorised"}', "application/json")),
        saying(http(201, b"\xff\xfe\x00" * 50, "application/json")),
    ],
)
async def test_whatever_is_no_clear_answer_is_unsure_and_asked_again_with_the_same_key(
    server: PaymentServer, answer: Answer
) -> None:
    server.answer = answer
    async with opened(server, payments_timeout=30) as provider:
        outcome = await ask(provider)
    assert outcome.verdict is Verdict.UNSURE
    assert len({asked.key for asked in server.asked}) == 1
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "answer",
    [hang, dribble, saying(b"HTTP/1.1 201 Created\r\ncontent-length: 999\r\n\r\n{")],
)
async def test_one_that_hangs_costs_no_more_than_the_timeout(
    server: PaymentServer, answer: Answer
) -> None:
    server.answer = answer
    async with opened(server, payments_timeout=0.6) as provider, asyncio.timeout(10):
        assert (await ask(provider)).verdict is Verdict.UNSURE


async def test_one_that_recovers_is_believed_within_the_same_call(server: PaymentServer) -> None:
    async def first_fails(server: PaymentServer, asked: Asked) -> bytes:
        answer = authorise_but_fail if len(server.asked) == 1 else authorise
        return await answer(server, asked)

    server.answer = first_fails
    async with opened(server) as provider:
        assert (await ask(provider)).verdict is Verdict.AUTHORISED
    assert (len(server.asked), len(server.authorised)) == (2, 1)


async def test_a_nobody_that_refuses_connections_is_unsure() -> None:
    async with payment_server() as server:
        pass
    async with opened(server) as provider:
        outcome = await ask(provider)
    assert outcome == Outcome(Verdict.UNSURE, reason="ConnectError", is_answer=False)


async def test_the_circuit_opens_spares_the_provider_and_closes_by_one_trial(
    server: PaymentServer,
) -> None:
    server.answer = saying(http(503, b"", "text/plain"))
    async with opened(server, policy=Policy(failures=4, rest=0.3)) as provider:
        assert [(await ask(provider)).reason for _ in range(3)] == [
            *("HTTP 503", "the circuit is open", "the circuit is open")
        ]
        assert len(server.asked) == 4
        assert REGISTRY.get_sample_value("orders_payment_circuit_open") == 1
        server.answer = authorise
        await asyncio.sleep(0.31)  # the rest is time, and nothing else
        outcomes = await asyncio.gather(*(ask(provider) for _ in range(5)))
        assert [each.verdict for each in outcomes].count(Verdict.AUTHORISED) == 1
        assert (await ask(provider)).verdict is Verdict.AUTHORISED
        assert REGISTRY.get_sample_value("orders_payment_circuit_open") == 0


# What becomes of an order.


async def make_payment(live: Live) -> Payment:
    async with live.sessions() as session:
        user, tea = await make_user(session), await make_product(session)
        order = await make_order(session, user, tea)
        async with transaction(session):
            return await payments.begin(session, order, "pm_card")


async def settle(live: Live, server: PaymentServer, payment: Payment) -> Outcome:
    async with opened(server, payments_timeout=1.0) as provider, live.sessions() as session:
        return await payments.authorise(session, provider, payment.id)


async def stored(live: Live, payment: Payment) -> tuple[str, int, str, str]:
    async with live.sessions() as session:
        order = await session.get_one(Order, payment.order_id)
        found = await session.get_one(Payment, payment.id)
        return order.status, order.version, found.status, found.reference


async def waiting(live: Live) -> list[str]:
    async with live.sessions() as session:
        return list(await session.scalars(text("SELECT entrypoint FROM pgqueuer")))


async def test_an_order_that_is_to_be_paid_for_waits_in_the_queue_before_anybody_is_asked(
    live: Live, server: PaymentServer
) -> None:
    payment = await make_payment(live)
    assert await stored(live, payment) == ("payment_pending", 2, "unsure", "")
    assert await waiting(live) == ["authorise_payment"]
    assert not server.asked


async def test_an_order_whose_transaction_fails_leaves_no_payment_and_no_task(live: Live) -> None:
    async def fail(session: AsyncSession, order: Order) -> None:
        async with transaction(session):
            await payments.begin(session, order, "pm_card")
            raise LookupError

    async with live.sessions() as session:
        order = await make_order(session, await make_user(session), await make_product(session))
        with pytest.raises(LookupError):
            await fail(session, order)
        assert await session.scalar(text("SELECT count(*) FROM payments")) == 0
    assert await waiting(live) == []


@pytest.mark.parametrize(
    ("answer", "status"), [(authorise, "confirmed"), (decline, "payment_failed")]
)
async def test_a_sure_answer_moves_the_order_and_a_second_look_changes_nothing(
    live: Live, server: PaymentServer, answer: Answer, status: str
) -> None:
    server.answer = answer
    payment = await make_payment(live)
    first = await settle(live, server, payment)
    before = await stored(live, payment)
    assert before[:3] == (status, 3, first.verdict)
    assert (await settle(live, server, payment)).verdict is first.verdict
    assert await stored(live, payment) == before
    assert len(server.asked) == 1


async def test_an_unsure_payment_leaves_the_order_pending_and_is_authorised_once_in_the_end(
    live: Live, server: PaymentServer
) -> None:
    server.answer = authorise_but_fail
    payment = await make_payment(live)
    assert (await settle(live, server, payment)).verdict is Verdict.UNSURE
    assert (await stored(live, payment))[:3] == ("payment_pending", 2, "unsure")
    server.answer = authorise
    assert (await settle(live, server, payment)).verdict is Verdict.AUTHORISED
    assert (await stored(live, payment))[0] == "confirmed"
    assert list(server.authorised) == [str(payment.id)]


async def test_a_request_and_a_worker_that_ask_at_once_move_the_order_once(
    live: Live, server: PaymentServer
) -> None:
    payment = await make_payment(live)
    outcomes = await asyncio.gather(*(settle(live, server, payment) for _ in range(4)))
    assert {each.verdict for each in outcomes} == {Verdict.AUTHORISED}
    assert (await stored(live, payment))[:2] == ("confirmed", 3)
    assert len(server.authorised) == 1


async def test_the_first_answer_that_is_sure_stays(live: Live, server: PaymentServer) -> None:
    payment = await make_payment(live)
    await settle(live, server, payment)
    before = await stored(live, payment)
    async with live.sessions() as session, transaction(session):
        late = Outcome(Verdict.DECLINED, reason="late")
        assert not await repository.settle(session, payment.id, late)
    assert await stored(live, payment) == before


async def test_of_two_who_pay_for_an_order_at_once_one_is_told_to_look_again(live: Live) -> None:
    async with live.sessions() as session:
        order = await make_order(session, await make_user(session), await make_product(session))

    async def pay() -> None:
        async with live.sessions() as session, transaction(session):
            await payments.begin(session, order, "pm_card")

    results = await asyncio.gather(pay(), pay(), return_exceptions=True)
    assert [type(each) for each in results if each] == [ConflictError]
    assert await waiting(live) == ["authorise_payment"]


async def test_an_order_is_not_paid_for_twice_but_may_be_tried_again_after_a_refusal(
    live: Live, server: PaymentServer
) -> None:
    payment = await make_payment(live)
    async with live.sessions() as session:
        order = await session.get_one(Order, payment.order_id)
        with pytest.raises(ConflictError, match="payment_pending"):
            await payments.begin(session, order, "pm_other")
        await session.rollback()
    server.answer = decline
    await settle(live, server, payment)
    async with live.sessions() as session:
        order = await session.get_one(Order, payment.order_id)
        async with transaction(session):
            second = await payments.begin(session, order, "pm_other")
    server.answer = authorise
    await settle(live, server, second)
    assert (await stored(live, second))[0] == "confirmed"
    assert second.id != payment.id


async def test_the_provider_is_told_of_the_trace_and_of_nothing_else_of_ours(
    live: Live, server: PaymentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    everything = {"traceparent": trace, "x-request-id": "r1", "baggage": "user=ann"}
    monkeypatch.setattr("orders.outbound.payment_provider.carry", lambda: everything)
    await settle(live, server, await make_payment(live))
    (asked,) = server.asked
    assert asked.headers["traceparent"] == trace
    assert not asked.headers.keys() & {"x-request-id", "baggage"}
