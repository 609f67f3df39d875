"""The bench's pure parts: what turns measured numbers into figures and judges them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import added, ratio, share
from bench.flush import counted
from bench.goals import GOALS, judge
from bench.migrations import COMMANDS
from bench.rows import BARE, ROWS, chosen
from bench.sockets import parse
from bench.tables import number, table, verdicts

ROUNDS = st.lists(st.floats(min_value=1, max_value=1e6), min_size=1, max_size=20)


@given(ROUNDS)
def test_a_row_beside_itself_costs_nothing_and_keeps_all_of_the_throughput(
    rounds: list[float],
) -> None:
    assert added(rounds, rounds) == {"least": 0, "median": 0}
    assert ratio(rounds, rounds) == {"low": 1, "median": 1, "high": 1}


@given(ROUNDS, st.floats(min_value=0.1, max_value=0.9))
def test_a_machine_that_drifts_moves_no_ratio(rounds: list[float], slower: float) -> None:
    against = ratio([one * slower for one in rounds], rounds)
    assert list(against.values()) == pytest.approx([slower] * 3)


def test_one_disturbed_round_moves_neither_figure() -> None:
    assert added([60, 61, 900], [50, 52, 50]) == {"least": 10, "median": 10}
    assert ratio([90, 9, 91], [100, 100, 100])["median"] == pytest.approx(0.9)


def test_a_share_of_nothing_is_all_of_it() -> None:
    assert (share(0, 0), share(45, 50)) == (1.0, 0.9)


@pytest.mark.parametrize(
    ("limit_and_sign", "value", "reached"),
    [("≥ 0.90", 0.9, True), ("≥ 0.90", 0.899, False), ("≤ 8", 8.0, True), ("≤ 8", 8.01, False)],
)
def test_a_goal_is_reached_at_its_limit_and_not_past_it(
    limit_and_sign: str, value: float, reached: bool
) -> None:
    goal = next(g for g in GOALS if f"{g.sign} {number(g.limit)}" == limit_and_sign)
    (judged,) = judge({goal.section: {goal.row: {goal.figure: value}}})
    assert judged.reached is reached
    assert ("NOT REACHED" in verdicts([judged])) is not reached


def test_goals_are_about_rows_that_exist_and_a_part_that_was_not_measured_is_not_judged() -> None:
    ways = {row.name for row in ROWS} | {*COMMANDS, "backfill", "export", "idle", "place", "read"}
    assert {goal.row for goal in GOALS} <= ways
    assert judge({"sockets": {BARE: {"ratio": 1.0}}}) == []


def test_a_row_brings_what_it_is_compared_with() -> None:
    names = [row.name for row in chosen(["tidegate-5-60-routes"])]
    assert names == [BARE, "bare-60-routes", "tidegate-5-60-routes"]
    assert BARE in {row.name for row in chosen(["naive"])}
    with pytest.raises(ValueError, match="no row is called tidegate-50; there are bare, "):
        chosen(["tidegate-50"])


def test_every_row_of_ours_states_whether_each_hook_is_on() -> None:
    ours = [row for row in ROWS if row.ours]
    assert ours
    for row in ours:
        assert {
            "TIDEGATE_METRICS",
            "TIDEGATE_ACCESS_LOG",
            "TIDEGATE_LOG_FORMAT",
            "TIDEGATE_TRACES_BACKEND",
        } <= set(row.environment), row.name


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.912, "0.91"), (52.44, "52.4"), (187.2, "187"), (12345.6, "12,346"), (100, "100")],
)
def test_a_number_keeps_the_digits_that_matter(value: float, text: str) -> None:
    assert number(value) == text


def test_a_figure_that_a_row_lacks_is_left_blank() -> None:
    text = table({"bare": {"µs": 51.26}, "tidegate-5": {"µs": 58.0, "added": 6.7}})
    assert text.splitlines() == [
        "              µs  added",
        "bare        51.3",
        "tidegate-5    58   6.70",
    ]


def test_wrks_last_line_is_read_whatever_it_prints_above() -> None:
    line = {"requests": 5000, "us": 1_000_000, "failed": 2, "p50_us": 2360, "p99_us": 8310}
    seen = parse(f"Running 1s test @ http://127.0.0.1\n  5000 requests\n\n{json.dumps(line)}\n")
    assert (seen.per_second, seen.p50_ms, seen.p99_ms, seen.failed) == (5000, 2.36, 8.31, 2)


def test_only_requests_to_the_measured_route_are_counted() -> None:
    exposition = (
        'http_requests_total{handler="/api/v1/orders/{order_id}",method="GET",status="2xx"} 200.0\n'
        'http_requests_total{handler="/api/v1/orders/{order_id}",method="GET",status="5xx"} 3.0\n'
        'http_requests_total{handler="/metrics",method="GET",status="2xx"} 7.0\n'
        'http_requests_created{handler="/api/v1/orders/{order_id}",method="GET"} 1.7e+09\n'
    )
    assert counted(exposition) == 203
