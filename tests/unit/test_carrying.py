"""What joins a job or a call to the request that caused it."""

from __future__ import annotations

import pytest

from tidegate import carry, current_request
from tidegate.carrying import carried_on

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE}-00f067aa0ba902b7-01"


def test_outside_of_any_request_there_is_nothing_to_carry() -> None:
    assert carry() == {}


def test_what_is_carried_joins_what_comes_next_and_the_next_after_that() -> None:
    with carried_on("first", {"traceparent": CALLER, "x-request-id": "order-7"}) as first:
        carried = carry()
        assert carried == {
            "traceparent": f"00-{TRACE}-{first.span_id}-01",
            "x-request-id": "order-7",
        }
    assert current_request() is None
    with carried_on("second", carried) as second:
        assert (second.request_id, second.trace_id) == ("order-7", TRACE)
        assert second.span_id not in {first.span_id, "00f067aa0ba902b7"}


@pytest.mark.parametrize(
    "carried",
    [{}, {"x-request-id": "a b\n", "traceparent": "00-0-0-01"}, {"x-request-id": "x" * 129}],
)
def test_with_nothing_to_go_by_a_request_begins_here(carried: dict[str, str]) -> None:
    with carried_on("task", carried) as request:
        assert (len(request.request_id), len(request.trace_id)) == (32, 32)
        assert not request.sampled
