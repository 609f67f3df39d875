"""The state machine of an order: the table, and no way around it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.core.errors import ConflictError, DomainError, ForbiddenError
from orders.core.order_states import TRANSITIONS, Actor, OrderStatus, require_transition

STATES, ACTORS = st.sampled_from(OrderStatus), st.sampled_from(Actor)
ENDS = {OrderStatus.DELIVERED, OrderStatus.CANCELLED}


def refusal(now: OrderStatus, wanted: OrderStatus, actor: Actor) -> DomainError | None:
    try:
        require_transition(now, wanted, actor)
    except DomainError as error:
        return error
    return None


@given(STATES, STATES, ACTORS)
def test_what_the_table_does_not_name_is_refused_and_the_reason_says_what_would_go(
    now: OrderStatus, wanted: OrderStatus, actor: Actor
) -> None:
    error = refusal(now, wanted, actor)
    actors = TRANSITIONS.get((now, wanted))
    if actors is None:
        ways = {str(end) for start, end in TRANSITIONS if start is now} or {"nothing", "else"}
        named = str(error).removeprefix(f"the order is {now}: it can become ").partition(",")[0]
        assert isinstance(error, ConflictError)
        assert {*named.replace(" or ", " ").split()} == ways
    else:
        assert isinstance(error, ForbiddenError) == (actor not in actors)


@given(st.lists(STATES, max_size=8))
def test_no_path_leads_out_of_an_end_or_to_the_customer_before_it_was_confirmed(
    path: list[OrderStatus],
) -> None:
    now, been = OrderStatus.PENDING, [OrderStatus.PENDING]
    for wanted in path:
        if any(refusal(now, wanted, actor) is None for actor in Actor):
            now = wanted
            been.append(now)
    assert not ENDS & set(been[:-1])
    assert OrderStatus.SHIPPED not in been or OrderStatus.CONFIRMED in been
    assert not {OrderStatus.SHIPPED, OrderStatus.CANCELLED} <= set(been)


def test_every_state_can_be_reached_and_all_but_the_ends_left() -> None:
    assert {end for _, end in TRANSITIONS} | {OrderStatus.PENDING} == set(OrderStatus)
    assert {start for start, _ in TRANSITIONS} | ENDS == set(OrderStatus)


@pytest.mark.parametrize(
    ("now", "wanted", "actor", "reason"),
    [
        ("pending", "confirmed", Actor.CUSTOMER, None),
        ("confirmed", "shipped", Actor.SHOP, None),
        ("confirmed", "shipped", Actor.CUSTOMER, "admin decides when an order is shipped"),
        ("payment_pending", "confirmed", Actor.SHOP, "payment decides when an order is confirmed"),
        (
            "payment_pending",
            "cancelled",
            Actor.CUSTOMER,
            "the order is payment_pending: it can become confirmed or payment_failed, not "
            "cancelled",
        ),
        (
            "delivered",
            "cancelled",
            Actor.SHOP,
            "the order is delivered: it can become nothing else, not cancelled",
        ),
    ],
)
def test_for_example(now: str, wanted: str, actor: Actor, reason: str | None) -> None:
    error = refusal(OrderStatus(now), OrderStatus(wanted), actor)
    assert (str(error) if error else None) == reason
