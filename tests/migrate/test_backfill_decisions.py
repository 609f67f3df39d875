"""What a backfill decides on plain data: its pace, its pauses, its reading of a declaration."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate_migrate.backfill.declaration import parse
from tidegate_migrate.backfill.keyrange import Column, Key
from tidegate_migrate.backfill.pace import Pace, back_off, first_size, next_size, rest, smaller
from tidegate_migrate.backfill.progress import Meter, duration, line
from tidegate_migrate.backfill.table import Entry
from tidegate_migrate.backfill.throttle import Limits, Load, Standby, reason_to_pause

PACES = st.builds(
    Pace,
    batch_seconds=st.floats(0.001, 10),
    batch_rows=st.integers(1, 1_000_000),
    duty=st.floats(0.01, 1),
)
ROWS = st.integers(1, 1_000_000)
SECONDS = st.floats(0, 1000)


@given(PACES, ROWS, SECONDS)
def test_a_batch_has_at_least_one_row_and_never_more_than_allowed(
    pace: Pace, rows: int, seconds: float
) -> None:
    for size in (first_size(pace), next_size(pace, rows, seconds), smaller(pace, rows)):
        assert 1 <= size <= pace.batch_rows


@given(PACES, ROWS, SECONDS, SECONDS)
def test_a_slower_batch_is_never_followed_by_a_bigger_one(
    pace: Pace, rows: int, one: float, other: float
) -> None:
    fast, slow = sorted((one, other))
    assert next_size(pace, rows, slow) <= next_size(pace, rows, fast)


@given(PACES, st.floats(1e-6, 0.1), st.floats(0, 0.5))
def test_where_every_row_costs_the_same_batches_come_to_take_the_time_they_should(
    pace: Pace, per_row: float, fixed_share: float
) -> None:
    fixed = fixed_share * pace.batch_seconds
    size = first_size(pace)
    for _ in range(60):
        size = next_size(pace, size, fixed + size * per_row)
    right = (pace.batch_seconds - fixed) / per_row
    lowest, highest = max(1.0, right * 0.5 - 1), max(1.0, right * 1.5 + 1)
    assert min(lowest, pace.batch_rows) <= size <= highest


@given(PACES, st.floats(0, 5))
def test_a_backfill_works_no_more_than_its_share_of_the_time(pace: Pace, seconds: float) -> None:
    pause = rest(pace, seconds)
    if pause < 10:  # longer ones are cut
        assert seconds <= pace.duty * (seconds + pause) * (1 + 1e-9)
    assert pause <= 10


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_tries_are_spread_and_never_far_apart(tries: int, one: float, other: float) -> None:
    assert 0.05 <= back_off(tries, one) <= 5
    assert back_off(tries, one) <= 2 * back_off(tries, other)


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (Load(), None),
        (Load(active=20, waiting=5, standbys=(Standby("b", 5.0, 64 << 20),)), None),
        (Load(active=21), "21 active sessions (at most 20)"),
        (Load(waiting=6), "6 sessions wait for locks (at most 5)"),
        (Load(standbys=(Standby("b", 7.25, 0),)), "b is 7.2 s behind (at most 5)"),
        (
            Load(standbys=(Standby("a", 0, 1), Standby("b", 0, 65 << 20))),
            "b is 65.0 MiB of WAL behind (at most 64.0 MiB)",
        ),
    ],
)
def test_it_pauses_above_a_limit_and_says_which(load: Load, reason: str | None) -> None:
    assert reason_to_pause(load, Limits()) == reason


def test_a_declaration_needs_a_table_and_what_to_do_and_its_pace_is_no_part_of_the_work() -> None:
    plain = 'table = "users"\nset = "a = lower(b);"\nwhere = "a IS NULL"\n'
    declaration = parse("n", plain)
    assert declaration.sql("users") == (
        "UPDATE users\nSET a = lower(b)\nWHERE {batch}\n  AND (\n    a IS NULL\n  )"
    )
    paced = parse("n", f"# slower\n{plain}[pace]\nduty = 0.1\n[limits]\nmax_lag = 1\n")
    assert (paced.pace.duty, paced.limits.max_lag) == (0.1, 1)
    assert paced.checksum == declaration.checksum
    assert replace(declaration, where="").checksum != declaration.checksum
    assert replace(declaration, key=("b",)).checksum != declaration.checksum


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('set = "a = 1"', "table is missing"),
        ('table = "t"', "exactly one of set and statement"),
        ('table = "t"\nset = "a = 1"\nstatement = "DELETE FROM t WHERE {batch}"', "exactly one"),
        ('table = "t"\nstatement = "DELETE FROM t"', "{batch} in it"),
        ('table = "t"\nset = "a = 1"\nwere = "b"', "nothing is called 'were'"),
        ('table = "t"\nset = 1', "set is not a text"),
        ('table = "t"\nset = "a = 1"\nkey = 1', "key is neither"),
        ('table = "t"\nset = "a = 1"\n[pace]\nspeed = 1', "[pace] has no speed"),
        ('table = "t"\nset = "a = 1"\n[pace]\nduty = 0', "duty of [pace]"),
        ('table = "t"\nset = "a = 1"\n[pace]\nbatch_rows = 1.5', "not a whole number"),
        ('table = "t"\nset = "a = 1"\n[limits]\nmax_lag = -1', "not a number, 0 or more"),
        ('table = "t"\nset = "a = 1"\n[limits]\nmax_active = true', "not a whole number"),
        ("table =", "Invalid value"),
    ],
)
def test_a_declaration_that_is_not_a_whole_one_says_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the words are looked at
        parse("n", text)
    assert words in str(refused.value)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=4, max_size=4).map(sorted))
def test_the_position_of_a_number_or_a_uuid_grows_with_it(numbers: list[int]) -> None:
    for kind, texts in (
        ("bigint", [str(number) for number in numbers]),
        ("uuid", [str(UUID(int=number + 2**63)) for number in numbers]),
    ):
        key = Key("t", (Column("id", kind),))
        ends = (texts[0],), (texts[3],)
        near, far = (key.position(*ends, (text,)) for text in texts[1:3])
        assert near is not None
        assert far is not None
        assert 0 <= near <= far <= 1
        assert key.position(*ends, ends[1]) == 1
    assert Key("t", (Column("id", "text"),)).position(("a",), ("z",), ("b",)) is None


def test_progress_is_by_the_keys_position_or_else_by_the_estimate_and_only_the_end_is_all() -> None:
    numbers = Key("t", (Column("id", "integer"),))
    begun = Entry("", ("200",), rows_seen=20, rows_changed=1)
    meter = Meter("n", numbers, (("0",), ("1000",)), 50, begun, now=10.0)
    now = replace(begun, last_key=("600",), rows_seen=60, rows_changed=2)
    progress = meter.read(now, now=14.0, batch_rows=7, paused=None)
    assert (progress.share, progress.rows_per_second) == (0.6, 10)
    assert progress.seconds_left == pytest.approx(4)
    assert line(progress) == "n  60%  60 rows, 2 changed  10 rows/s  about 4 s left"
    paused = meter.read(replace(now, last_key=("2000",)), now=14.0, batch_rows=7, paused="so busy")
    assert line(paused) == "n  99%  paused: so busy  60 rows, 2 changed"
    texts = Key("t", (Column("id", "text"),))
    assert Meter("n", texts, (("a",), ("z",)), 50, begun, 0).read(begun, 1, 7, None).share == 0.4
    unknown = Meter("n", texts, (("a",), ("z",)), 0, begun, 0).read(begun, 1, 7, None)
    assert (unknown.share, unknown.seconds_left) == (None, None)
    as_json: dict[str, Any] = json.loads(json.dumps(unknown.to_dict()))
    assert as_json["rows_seen"] == 20


@pytest.mark.parametrize(
    ("seconds", "words"), [(7.6, "8 s"), (200, "3 min 20 s"), (7500.0, "2 h 5 min")]
)
def test_a_time_is_written_as_a_person_says_it(seconds: float, words: str) -> None:
    assert duration(seconds) == words
