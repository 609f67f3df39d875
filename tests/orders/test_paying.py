"""Orders that are paid for over HTTP, by a provider that is sure, unsure, slow, or not there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Role
from orders.core.database import Sessions
from orders.models import Order, Payment, Product, User
from orders.outbound.payment_answers import Verdict
from orders.outbound.payment_provider import open_provider
from orders.services import payments
from tests.orders.conftest import Live, Start, settings_of, speak_as
from tests.orders.factories import lines, make_product, make_user, principal_of
from tests.orders.payment_server import (
    Answer,
    Asked,
    PaymentServer,
    authorise,
    authorise_but_fail,
    decline,
    hang,
    hang_up,
    http,
    payment_server,
    saying,
    void,
)

ORDERS = "/api/v1/orders"
CARD = {"payment_method_id": "pm_card_visa"}


@pytest.fixture
async def server() -> AsyncIterator[PaymentServer]:
    async with payment_server() as running:
        yield running


@pytest.fixture
async def shop(
    app: FastAPI, client: httpx.AsyncClient, sessions: Sessions, server: PaymentServer
) -> AsyncIterator[Live]:
    """The application with a provider; what it writes is rolled back."""
    wanted = settings_of("postgresql://nobody@localhost/none", **paying(server))
    async with open_provider(wanted) as app.state.payments:
        yield Live(app, client, sessions)
    app.state.payments = None


@pytest.fixture
async def busy_shop(start: Start, server: PaymentServer) -> AsyncIterator[Live]:
    """The same with real commits, for what races, and few connections to the database."""
    live = start(**paying(server), database_pool_size=2)
    async with open_provider(live.app.state.settings) as live.app.state.payments:
        yield live


def paying(server: PaymentServer) -> dict[str, Any]:
    return {"payments_url": server.url, "payments_timeout": 1.0}


@pytest.fixture
async def ann(shop: Live) -> User:
    """Who asks, unless the test says otherwise."""
    return await customer(shop)


@pytest.fixture
async def tea(shop: Live) -> Product:
    return await product(shop)


async def customer(shop: Live) -> User:
    async with shop.sessions() as session:
        user = await make_user(session)
    speak_as(shop.app, principal_of(user))
    return user


async def product(shop: Live) -> Product:
    async with shop.sessions() as session:
        return await make_product(session, stock=100)


async def place(
    shop: Live, product: Product, how: dict[str, str] = CARD, key: str | None = None
) -> httpx.Response:
    body = lines((product, 2)) | how
    return await shop.client.post(
        ORDERS, json=body, headers={"idempotency-key": key} if key else {}
    )


async def read(shop: Live, answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = (await shop.client.get(answer.headers["location"])).json()
    return found


async def count(shop: Live, table: str) -> int:
    async with shop.sessions() as session:
        return int(await session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)  # noqa: S608


async def queued(shop: Live) -> list[str]:
    async with shop.sessions() as session:
        return list(await session.scalars(text("SELECT entrypoint FROM pgqueuer ORDER BY id")))


async def told(shop: Live) -> list[tuple[str, str]]:
    """What those who follow orders are told."""
    query = text("SELECT kind, payload ->> 'status' FROM order_events ORDER BY id")
    async with shop.sessions() as session:
        return [(kind, status) for kind, status in await session.execute(query)]


async def the_payment(shop: Live) -> Payment:
    async with shop.sessions() as session:
        payment = await session.scalar(text("SELECT id FROM payments"))
        return await session.get_one(Payment, payment)


async def run_the_task(shop: Live) -> None:
    """Ask once more, as a worker does."""
    payment = await the_payment(shop)
    async with shop.sessions() as session:
        await payments.authorise(session, shop.app.state.payments, payment.id)


@pytest.mark.parametrize(
    ("answer", "status", "version"),
    [
        (authorise, "confirmed", 3),
        (decline, "payment_failed", 3),
        (authorise_but_fail, "payment_pending", 2),
        (hang, "payment_pending", 2),
    ],
)
async def test_an_order_comes_back_as_the_provider_has_left_it(
    shop: Live, server: PaymentServer, ann: User, tea: Product, *, answer: Answer, status: str,
    version: int,
) -> None:  # fmt: skip
    server.answer = answer
    async with asyncio.timeout(20):
        placed = await place(shop, tea)
    order = placed.json()
    assert (placed.status_code, order["status"], order["version"]) == (201, status, version)
    assert placed.headers["etag"] == f'"{version}"'
    assert await read(shop, placed) == order
    assert server.asked[0].body == {"order_id": order["id"], "amount_cents": 900, **CARD}
    assert await count(shop, "pgqueuer") == 1


async def test_an_order_without_a_payment_method_waits_and_nobody_is_asked(
    shop: Live, server: PaymentServer, ann: User, tea: Product
) -> None:
    placed = await place(shop, tea, {})
    assert (placed.status_code, placed.json()["status"]) == (201, "pending")
    assert not server.asked
    assert await count(shop, "pgqueuer") == 0


async def test_an_order_that_is_refused_is_never_asked_about(
    shop: Live, server: PaymentServer, ann: User
) -> None:
    async with shop.sessions() as session:
        rare = await make_product(session, stock=1)
    assert (await place(shop, rare)).status_code == 409
    assert not server.asked
    assert await count(shop, "payments") == await count(shop, "pgqueuer") == 0


async def test_what_is_unsure_is_brought_to_an_end_by_the_queue(
    shop: Live, server: PaymentServer, ann: User, tea: Product
) -> None:
    server.answer = authorise_but_fail
    placed = await place(shop, tea)
    assert placed.json()["status"] == "payment_pending"
    server.answer = authorise
    await run_the_task(shop)
    assert (await read(shop, placed))["status"] == "confirmed"
    assert list(server.authorised) == [str((await the_payment(shop)).id)]


def authorise_after(go_on: asyncio.Event) -> Answer:
    async def answer(server: PaymentServer, asked: Asked) -> bytes:
        await go_on.wait()
        return await authorise(server, asked)

    return answer


async def test_no_connection_is_held_while_the_provider_is_asked(
    busy_shop: Live, server: PaymentServer
) -> None:
    shop, _, tea = busy_shop, await customer(busy_shop), await product(busy_shop)
    go_on = asyncio.Event()
    server.answer = authorise_after(go_on)
    placing = [asyncio.create_task(place(shop, tea)) for _ in range(4)]
    await server.until_asked(4)
    pool: Any = shop.sessions.kw["bind"].pool
    assert pool.checkedout() == 0
    go_on.set()
    assert {(await each).json()["status"] for each in placing} == {"confirmed"}


@pytest.mark.parametrize("answer", [authorise, decline, authorise_but_fail])
async def test_a_key_is_answered_the_same_whatever_has_become_of_the_order(
    shop: Live, server: PaymentServer, ann: User, tea: Product, *, answer: Answer
) -> None:
    server.answer = answer
    first = await place(shop, tea, key="k")
    server.answer = authorise
    await run_the_task(shop)
    again = await place(shop, tea, key="k")
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["etag"] == first.headers["etag"]
    assert await count(shop, "orders") == await count(shop, "payments") == 1
    assert (await place(shop, tea, {"payment_method_id": "pm_other"}, key="k")).status_code == 422


async def test_idempotency_sent_again_while_the_provider_is_asked_it_is_answered_the_same(
    busy_shop: Live, server: PaymentServer
) -> None:
    shop, _, tea = busy_shop, await customer(busy_shop), await product(busy_shop)
    go_on = asyncio.Event()
    server.answer = authorise_after(go_on)
    placing = [asyncio.create_task(place(shop, tea, key="k")) for _ in range(3)]
    await server.until_asked(3)
    go_on.set()
    answers = [await each for each in placing]
    assert {answer.json()["status"] for answer in answers} == {"confirmed"}
    assert len({answer.content for answer in answers}) == 1
    assert len(server.authorised) == await count(shop, "orders") == 1


async def test_idempotency_of_two_who_are_told_different_things_the_first_has_the_last_word(
    start: Start, server: PaymentServer
) -> None:
    go_on = asyncio.Event()

    async def wait_the_first_time(server: PaymentServer, asked: Asked) -> bytes:
        if asked is not server.asked[0]:
            return await authorise_but_fail(server, asked)
        await go_on.wait()
        return await authorise(server, asked)

    shop = start(payments_url=server.url, payments_timeout=30)
    async with open_provider(shop.app.state.settings) as shop.app.state.payments:
        _, tea = await customer(shop), await product(shop)
        server.answer = wait_the_first_time
        waiting = asyncio.create_task(place(shop, tea, key="k"))
        await server.until_asked(1)
        first = await place(shop, tea, key="k")
        go_on.set()
        assert (await waiting).content == first.content
    assert first.json()["status"] == "payment_pending"
    assert (await read(shop, first))["status"] == "confirmed"


async def test_a_request_that_dies_while_it_asks_is_gone_on_with_when_it_is_sent_again(
    busy_shop: Live, server: PaymentServer
) -> None:
    shop, _, tea = busy_shop, await customer(busy_shop), await product(busy_shop)
    server.answer = hang
    dying = asyncio.create_task(place(shop, tea, key="k"))
    await server.until_asked(1)
    dying.cancel()
    await asyncio.wait({dying})
    server.answer = authorise
    again = await place(shop, tea, key="k")
    assert (again.status_code, again.json()["status"]) == (201, "confirmed")
    assert await count(shop, "orders") == len(server.authorised) == 1


async def test_double_confirm_of_two_sure_answers_at_once_one_confirms(
    busy_shop: Live, server: PaymentServer
) -> None:
    shop, _, tea = busy_shop, await customer(busy_shop), await product(busy_shop)
    both = asyncio.Barrier(2)

    async def together(server: PaymentServer, asked: Asked) -> bytes:
        await both.wait()
        return await authorise(server, asked)

    server.answer = together
    placing = asyncio.create_task(place(shop, tea))
    await server.until_asked(1)
    await run_the_task(shop)
    order = (await placing).json()
    assert (order["status"], order["version"]) == ("confirmed", 3)
    assert await told(shop) == [
        ("order.placed", "pending"),
        ("order.moved", "payment_pending"),
        ("order.moved", "confirmed"),
    ]
    assert len(server.authorised) == 1


async def cancel(shop: Live, placed: httpx.Response) -> httpx.Response:
    return await shop.client.patch(
        placed.headers["location"], json={"status": "cancelled"}, headers={"if-match": "*"}
    )


async def give_back(shop: Live) -> Verdict:
    """Ask once that what was authorised is given back, as a worker does."""
    payment = await the_payment(shop)
    async with shop.sessions() as session:
        return (await payments.void(session, shop.app.state.payments, payment.id)).verdict


@pytest.mark.parametrize("lost", [hang, hang_up, saying(http(502, b"", "text/html"))])
async def test_what_was_authorised_for_an_order_that_is_cancelled_is_given_back_in_the_end(
    shop: Live, server: PaymentServer, ann: User, tea: Product, lost: Answer
) -> None:
    placed = await place(shop, tea)
    assert await queued(shop) == ["authorise_payment"]
    assert (await cancel(shop, placed)).json()["status"] == "cancelled"
    assert await queued(shop) == ["authorise_payment", "void_payment"]
    server.voiding = lost
    assert await give_back(shop) is Verdict.UNSURE
    server.voiding = void
    assert [await give_back(shop), await give_back(shop)] == [Verdict.VOIDED] * 2
    assert server.voided == list(server.authorised.values())
    voids = {asked.key for asked in server.asked if asked.path.endswith("/void")}
    (payment,) = (await shop.client.get(f"{placed.headers['location']}/payments")).json()
    assert voids == {f"{payment['id']}-void"}
    assert (payment["status"], payment["voided_at"] is not None) == ("voided", True)


async def test_an_authorisation_that_has_lapsed_is_given_back_already(
    shop: Live, server: PaymentServer, ann: User, tea: Product
) -> None:
    await cancel(shop, await place(shop, tea))
    server.voiding = saying(http(410, b"", "text/plain"))
    assert await give_back(shop) is Verdict.VOIDED


async def test_where_nothing_was_authorised_nothing_is_given_back(
    shop: Live, server: PaymentServer, ann: User, tea: Product
) -> None:
    server.answer = decline
    assert (await cancel(shop, await place(shop, tea))).status_code == 200
    assert (await cancel(shop, await place(shop, tea, {}))).status_code == 200
    assert set(await queued(shop)) == {"authorise_payment"}


async def test_a_declined_order_is_paid_for_again_and_says_why_it_was_not(
    busy_shop: Live, server: PaymentServer
) -> None:
    shop, _, tea = busy_shop, await customer(busy_shop), await product(busy_shop)
    server.answer = decline
    placed = await place(shop, tea)
    path = f"{placed.headers['location']}/payments"
    server.answer = authorise
    paid = await shop.client.post(path, json={"payment_method_id": "pm_other"})
    assert (paid.status_code, paid.json()["status"], paid.json()["amount_cents"]) == (
        *(201, "authorised"),
        900,
    )
    assert (await read(shop, placed))["status"] == "confirmed"
    listed = (await shop.client.get(path)).json()
    assert [(each["status"], each["reason"]) for each in listed] == [
        ("authorised", ""),
        ("declined", "insufficient funds"),
    ]
    refused = await shop.client.post(path, json=CARD)
    assert (refused.status_code, len(server.authorised)) == (409, 1)
    assert "the order is confirmed" in refused.json()["detail"]


async def test_of_many_who_pay_for_one_order_at_once_one_pays(
    busy_shop: Live, server: PaymentServer
) -> None:
    shop, _, tea = busy_shop, await customer(busy_shop), await product(busy_shop)
    path = f"{(await place(shop, tea, {})).headers['location']}/payments"
    answers = await asyncio.gather(*(shop.client.post(path, json=CARD) for _ in range(6)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 5}
    assert len(server.authorised) == 1


async def test_payments_are_the_customers_own(
    shop: Live, server: PaymentServer, ann: User, tea: Product
) -> None:
    path = f"{(await place(shop, tea, {})).headers['location']}/payments"
    async with shop.sessions() as session:
        speak_as(shop.app, principal_of(await make_user(session)))
    assert (await shop.client.get(path)).status_code == 404
    assert (await shop.client.post(path, json=CARD)).status_code == 404
    assert not server.asked


async def test_a_customer_cannot_confirm_without_paying_where_an_admin_can(
    shop: Live, ann: User, tea: Product
) -> None:
    path = (await place(shop, tea, {})).headers["location"]

    async def confirm() -> httpx.Response:
        return await shop.client.patch(
            path, json={"status": "confirmed"}, headers={"if-match": "*"}
        )

    refused = await confirm()
    assert (refused.status_code, "its payment" in refused.json()["detail"]) == (403, True)
    async with shop.sessions() as session:
        speak_as(shop.app, principal_of(await make_user(session, role=Role.ADMIN)))
    assert (await confirm()).status_code == 200


async def test_where_no_provider_is_set_up_paying_is_refused_by_field(
    shop: Live, ann: User, tea: Product
) -> None:
    placed = await place(shop, tea, {})
    shop.app.state.payments = None
    for refused in (
        await place(shop, tea),
        await shop.client.post(f"{placed.headers['location']}/payments", json=CARD),
    ):
        (error,) = refused.json()["errors"]
        assert (refused.status_code, error["field"]) == (422, "body.payment_method_id")
    assert await count(shop, "orders") == 1


@pytest.mark.parametrize("method", ["", "x" * 201, "a b", "ä", "a\x00b", 7])
async def test_a_malformed_payment_method_is_refused_by_field(
    client: httpx.AsyncClient, session: AsyncSession, app: FastAPI, method: object
) -> None:
    speak_as(app, principal_of(await make_user(session)))
    tea = await make_product(session)
    refused = await client.post(ORDERS, json=lines((tea, 1)) | {"payment_method_id": method})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "body.payment_method_id"


async def test_if_the_database_goes_away_meanwhile_the_order_is_placed_and_not_ordered_twice(
    shop: Live, server: PaymentServer, ann: User, tea: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr("orders.repositories.payments.settle", away)
    keyed = await place(shop, tea, key="k")
    assert keyed.status_code == 503  # to be sent again
    placed = await place(shop, tea)
    assert (placed.status_code, placed.json()["status"]) == (201, "payment_pending")
    monkeypatch.undo()
    assert (await place(shop, tea, key="k")).json()["status"] == "confirmed"
    async with shop.sessions() as session:
        orders = (await session.scalars(text("SELECT status FROM orders ORDER BY status"))).all()
        assert orders == ["confirmed", "payment_pending"]
        assert isinstance(await session.get(Order, placed.json()["id"]), Order)
