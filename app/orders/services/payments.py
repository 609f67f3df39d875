"""The rules of paying: an order is asked about until the provider is sure, and paid for once.

What was authorised for an order that is cancelled afterwards is given back.

What is to be asked, with its key, is stored together with the task that asks; only then does
anybody ask, outside of any transaction. So a process may die at any moment: the task is there.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.database import transaction
from orders.core.order_states import Actor, OrderStatus
from orders.models import Order, Payment
from orders.outbound.payment_answers import Outcome, Verdict
from orders.outbound.payment_provider import PaymentProvider
from orders.repositories import payments
from orders.services.order_changes import advance
from orders.tasks.queue import enqueue

AUTHORISE_PAYMENT: Final = "authorise_payment"
"""The task that asks until there is an answer."""

VOID_PAYMENT: Final = "void_payment"
"""The task that asks until what was authorised is given back."""

_TASK_WAITS: Final = timedelta(seconds=15)
"""The request asks by itself first; the task is for what it has not brought to an end."""


_NOBODY_TO_ASK: Final = Outcome(Verdict.UNSURE, reason="APP_PAYMENTS_URL names no payment provider")


class PaymentArguments(BaseModel):
    """What the tasks are told."""

    payment_id: UUID


async def begin(session: AsyncSession, order: Order, payment_method_id: str) -> Payment:
    """Store what is to be asked, and order the task: part of the caller's transaction block.

    The order is ``payment_pending`` from here on.

    Raises:
        ConflictError: the order is not one to pay for now.
    """
    await advance(session, order, OrderStatus.PAYMENT_PENDING, Actor.PAYMENT)
    payment = Payment(
        order_id=order.id, payment_method_id=payment_method_id, amount_cents=order.total_cents
    )
    await payments.add(session, payment)
    await enqueue(
        session, AUTHORISE_PAYMENT, PaymentArguments(payment_id=payment.id), after=_TASK_WAITS
    )
    return payment


async def give_back(session: AsyncSession, order: Order) -> None:
    """Order the task that gives back what was authorised: part of the caller's transaction block.

    The order is cancelled. Most have nothing to give back.
    """
    for payment in await payments.of_order(session, order.id):
        if payment.verdict is Verdict.AUTHORISED:
            await enqueue(session, VOID_PAYMENT, PaymentArguments(payment_id=payment.id))


async def authorise(
    session: AsyncSession, provider: PaymentProvider | None, payment_id: UUID
) -> Outcome:
    """Ask the provider, and move the order to where its answer says: outside of any block.

    May be called as often as one likes, and by several at once: the provider knows the key, and
    the first answer that is sure is the one that counts. No connection is held meanwhile.

    Returns:
        what is known now. ``UNSURE`` leaves the order ``payment_pending`` and the task in the
        queue.
    """
    payment = await _read(session, payment_id)
    if payment.status != Verdict.UNSURE:
        return _outcome(payment)
    if provider is None:
        return _NOBODY_TO_ASK
    outcome = await provider.authorise(
        payment.id, payment.order_id, payment.amount_cents, payment.payment_method_id
    )
    if outcome.verdict is Verdict.UNSURE:
        return outcome
    async with transaction(session):
        if await payments.settle(session, payment_id, outcome):
            order = await session.get_one(Order, payment.order_id, populate_existing=True)
            authorised = outcome.verdict is Verdict.AUTHORISED
            to = OrderStatus.CONFIRMED if authorised else OrderStatus.PAYMENT_FAILED
            await advance(session, order, to, Actor.PAYMENT)
            return outcome
        stored = await payments.get(session, payment_id)
    return _outcome(stored) if stored else outcome


async def void(
    session: AsyncSession, provider: PaymentProvider | None, payment_id: UUID
) -> Outcome:
    """Ask the provider to give back what it has authorised: outside of any block.

    May be called as often as one likes; see :func:`authorise`.
    """
    payment = await _read(session, payment_id)
    if payment.verdict is not Verdict.AUTHORISED:
        return _outcome(payment)
    if provider is None:
        return _NOBODY_TO_ASK
    outcome = await provider.void(payment.id, payment.reference)
    if outcome.verdict is Verdict.VOIDED:
        async with transaction(session):
            await payments.void(session, payment_id)
    return outcome


async def _read(session: AsyncSession, payment_id: UUID) -> Payment:
    async with transaction(session):
        payment = await payments.get(session, payment_id)
    if payment is None:
        raise LookupError(f"there is no payment {payment_id}")
    return payment


def _outcome(payment: Payment) -> Outcome:
    return Outcome(payment.verdict, payment.reference, payment.reason)
