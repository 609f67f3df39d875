"""What is decided about payments without asking anybody: the circuit, and what an answer means."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from orders.outbound.circuit import Circuit, Policy, ask, fail, succeed
from orders.outbound.payment_answers import Verdict, read

POLICY = Policy(failures=3, rest=10.0)
HONEST = {"id": "a1", "status": "authorised", "order_id": "o1", "amount_cents": 450}


def judge(status: int, body: bytes) -> Verdict:
    return read(status, body, order_id="o1", amount_cents=450).verdict


class Calls(RuleBasedStateMachine):
    """Any order of calls, answers, failures and time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.circuit = Circuit()
        self.in_a_row = 0
        self.let_through_at: list[float] = []

    @rule(seconds=st.integers(0, 25))
    def time_goes_by(self, seconds: int) -> None:
        self.now += seconds

    @rule(outcome=st.sampled_from(["answers", "fails", "never ends"]))
    def somebody_calls(self, outcome: str) -> None:
        was_open = self.circuit.is_open
        self.circuit, allowed = ask(self.circuit, POLICY, self.now)
        assert allowed or was_open  # a closed circuit refuses nobody
        if not allowed:
            return
        if was_open:
            assert all(self.now - at >= POLICY.rest for at in self.let_through_at)
            self.let_through_at = [self.now]
        if outcome == "answers":
            self.circuit, self.in_a_row, self.let_through_at = succeed(self.circuit), 0, []
        elif outcome == "fails":
            self.circuit = fail(self.circuit, POLICY, self.now)
            self.in_a_row += 1
            if self.circuit.is_open:
                self.let_through_at = [self.now]

    @rule()
    def after_a_rest_somebody_may_try(self) -> None:
        _, allowed = ask(self.circuit, POLICY, self.now + POLICY.rest)
        assert allowed

    @invariant()
    def it_is_open_exactly_after_enough_failures_in_a_row(self) -> None:
        assert self.circuit.is_open == (self.in_a_row >= POLICY.failures)


TestCalls = Calls.TestCase


@given(st.integers(100, 599), st.binary() | st.text().map(str.encode))
def test_no_answer_is_too_strange_and_none_is_sure_by_chance(status: int, body: bytes) -> None:
    assert judge(status, body) is (Verdict.DECLINED if status == 422 else Verdict.UNSURE)


@given(
    st.sampled_from(sorted(HONEST)),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
)
def test_an_answer_with_one_wrong_member_is_unsure(name: str, value: object) -> None:
    changed = HONEST | {name: value}
    verdict = judge(201, json.dumps(changed).encode())
    honest = changed == HONEST and type(value) is type(HONEST[name])
    if honest or name == "id" or value == "declined":
        return
    assert verdict is Verdict.UNSURE


def test_what_an_error_status_says_is_not_believed() -> None:
    body = json.dumps(HONEST).encode()
    assert judge(201, body) is Verdict.AUTHORISED
    assert judge(402, json.dumps(HONEST | {"status": "declined"}).encode()) is Verdict.DECLINED
    for status in (202, 302, 400, 401, 404, 409, 429, 500, 502, 503):
        assert judge(status, body) is Verdict.UNSURE
    assert judge(422, body) is Verdict.DECLINED
