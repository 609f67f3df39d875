"""Asks the payment provider until it is sure, and to give back what nobody owes any more."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from orders.outbound.payment_answers import Verdict
from orders.services import payments
from orders.services.payments import PaymentArguments
from orders.tasks.retry import Retry
from orders.tasks.task import NotYetError, Resources, Task


async def run(resources: Resources, arguments: PaymentArguments) -> None:
    """Ask once more. The provider knows the key, and only one answer is written down."""
    async with resources.sessions() as session:
        outcome = await payments.authorise(session, resources.payments, arguments.payment_id)
    if outcome.verdict is Verdict.UNSURE:
        raise NotYetError(outcome.reason)


async def void(resources: Resources, arguments: PaymentArguments) -> None:
    """Ask once more that it is given back. The provider knows the key."""
    async with resources.sessions() as session:
        outcome = await payments.void(session, resources.payments, arguments.payment_id)
    if outcome.verdict is Verdict.UNSURE:
        raise NotYetError(outcome.reason)


AUTHORISE_PAYMENT: Final = Task(
    name=payments.AUTHORISE_PAYMENT,
    arguments=PaymentArguments,
    run=run,
    # Never dead: somebody's money may be reserved, and only an answer tells.
    retry=Retry(first=timedelta(seconds=5), longest=timedelta(minutes=10), attempts=None),
)

VOID_PAYMENT: Final = Task(
    name=payments.VOID_PAYMENT,
    arguments=PaymentArguments,
    run=void,
    # About a day. Then it is for a person to look at, before the authorisation lapses by itself.
    retry=Retry(first=timedelta(seconds=5), longest=timedelta(hours=1), attempts=36),
)
