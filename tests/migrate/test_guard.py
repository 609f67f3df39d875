"""Who still runs an older image: crashes, clocks and processes that sleep."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from tests.migrate.conftest import Rows, Tidegate, clean_environment, finish
from tests.migrate.project import AlembicProject
from tidegate.schema import Failure, Manifest, Phase, Revision
from tidegate_migrate import guard, instances
from tidegate_migrate.failure import MigrateError
from tidegate_migrate.instances import Instance
from tidegate_migrate.place import Place

PLACE = Place("public")
OLD = Manifest.of([Revision("1")])
NEW = Manifest.of([Revision("1"), Revision("2", Phase.CONTRACT, ("1",))])

MINUTE = 2.0
"""Seconds that a minute lasts here."""

Beat = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    """The runner's connection, on a database with the table."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        instances.ensure(connection, PLACE)
        yield connection


@pytest.fixture
def beat(database_url: str, tmp_path: Path) -> Iterator[Beat]:
    """Start a process that beats five times a second; it is killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(ships: Manifest, image: str = "shop:1") -> subprocess.Popen[bytes]:
        manifest = tmp_path / f"{len(started)}.json"
        manifest.write_text(ships.to_json())
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.migrate.beating", str(manifest), "0.2", f"{MINUTE}"],
            env=clean_environment() | {"DATABASE_URL": database_url, "TIDEGATE_IMAGE": image},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def short_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner's minute is as short as the processes'."""
    monkeypatch.setattr(guard, "GONE_AFTER", MINUTE)
    monkeypatch.setattr(instances, "GONE_AFTER", MINUTE)


def test_a_process_of_an_older_image_is_named_and_one_that_ships_the_revision_is_not(
    connection: psycopg.Connection, beat: Beat
) -> None:
    new = beat(NEW, "shop:2")
    until_seen(connection, new)
    assert objection(connection) is None
    old = beat(OLD, "shop:1")
    until_seen(connection, old)
    refused = objection(connection)
    assert refused
    assert (refused.failure, refused.revision) == (Failure.INCOMPATIBLE, "2")
    assert f"/{old.pid}/" in refused.message
    assert "image shop:1, ships up to 1, seen 0 s ago" in refused.message
    assert f"/{new.pid}/" not in refused.message
    old.terminate()
    old.wait()
    assert objection(connection) is None, "it has said goodbye"


def test_a_process_that_crashed_counts_for_a_minute_and_then_no_more(
    connection: psycopg.Connection, beat: Beat
) -> None:
    for process in (beat(NEW), old := beat(OLD)):
        until_seen(connection, process)
    old.kill()
    old.wait()
    assert "would break what runs" in words(objection(connection))
    until(lambda: objection(connection) is None)
    assert len(instances.read(connection, PLACE)) == 2, "the row is still there"


def test_a_process_that_sleeps_is_gone_after_a_minute_and_seen_again_when_it_wakes_up(
    connection: psycopg.Connection, beat: Beat
) -> None:
    for process in (beat(NEW), old := beat(OLD)):
        until_seen(connection, process)
    old.send_signal(signal.SIGSTOP)
    assert "would break what runs" in words(objection(connection))
    until(lambda: objection(connection) is None)
    old.send_signal(signal.SIGCONT)
    until(lambda: "would break what runs" in words(objection(connection)))


def test_silence_proves_nothing_where_nobody_was_heard(
    connection: psycopg.Connection, beat: Beat
) -> None:
    """As after an outage: whoever comes back to the database first may be the runner."""
    for process in (new := beat(NEW), old := beat(OLD)):
        until_seen(connection, process)
        process.send_signal(signal.SIGSTOP)
    until(lambda: "the silence proves nothing" in words(objection(connection)))
    new.send_signal(signal.SIGCONT)
    until_seen(connection, new)
    assert "the silence proves nothing" in words(objection(connection)), "for a minute it may not"
    old.send_signal(signal.SIGCONT)
    until(lambda: "would break what runs" in words(objection(connection)))


def test_a_clock_that_jumps_ahead_makes_nobody_gone(
    connection: psycopg.Connection, beat: Beat
) -> None:
    for process in (new := beat(NEW), old := beat(OLD)):
        until_seen(connection, process)
        process.send_signal(signal.SIGSTOP)
    jump(connection, "1 hour")
    assert "the silence proves nothing" in words(objection(connection))
    new.send_signal(signal.SIGCONT)
    until_seen(connection, new)
    assert "the silence proves nothing" in words(objection(connection)), "for a minute it may not"
    old.send_signal(signal.SIGCONT)
    until(lambda: "would break what runs" in words(objection(connection)))


def test_a_clock_that_is_set_back_keeps_nobody_alive(
    connection: psycopg.Connection, beat: Beat
) -> None:
    for process in (new := beat(NEW), old := beat(OLD)):
        until_seen(connection, process)
        process.send_signal(signal.SIGSTOP)
    jump(connection, "-1 hour")
    until(lambda: "would break what runs" in words(objection(connection)))
    old.kill()
    new.send_signal(signal.SIGCONT)
    until(lambda: objection(connection) is None)


def test_without_a_table_or_a_row_in_it_nobody_can_tell(connection: psycopg.Connection) -> None:
    assert "no service process reports" in words(objection(connection))
    connection.execute("DROP TABLE tidegate_instances")
    refused = objection(connection)
    assert "no service process reports" in words(refused)
    assert refused
    assert "--nobody-runs-older" in refused.hint


def test_rows_of_the_day_before_yesterday_are_swept_out_by_whoever_beats(
    connection: psycopg.Connection, beat: Beat
) -> None:
    for name, age in (("yesterday", "23 hours"), ("before", "25 hours")):
        connection.execute(
            "INSERT INTO tidegate_instances VALUES "
            "(%s, '{1}', '', now(), now(), now() - %s::interval)",
            [name, age],
        )
    until_seen(connection, new := beat(NEW))
    left = {each.name for each in instances.read(connection, PLACE)}
    assert {name for name in left if f"/{new.pid}/" not in name} == {"yesterday"}


def test_the_table_is_made_once_and_what_an_administrator_revokes_stays_revoked(
    connection: psycopg.Connection,
) -> None:
    connection.execute("REVOKE ALL ON tidegate_instances FROM PUBLIC")
    instances.ensure(connection, PLACE)
    row = connection.execute(
        "SELECT count(*) FROM information_schema.table_privileges "
        "WHERE table_name = 'tidegate_instances' AND grantee = 'PUBLIC'"
    ).fetchone()
    assert row == (0,)


def test_a_contract_run_is_refused_while_an_older_process_runs_and_goes_on_when_it_has_ended(
    project: AlembicProject, tidegate: Tidegate, rows: Rows, database_url: str, beat: Beat
) -> None:
    project.revision("1").revision("2", "1", phase="contract").revision("3", "2")
    arguments = ["up", "--config", project.config, "--json"]
    assert finish(tidegate(*arguments, "--to", "1"))[0] == 0
    with psycopg.connect(database_url, autocommit=True) as connection:
        for process in (beat(NEW), old := beat(OLD)):
            until_seen(connection, process)
        code, report = finish(tidegate(*arguments, "--phase", "contract"))
        assert code == 4
        assert f"/{old.pid}/" in report.message
        assert rows("SELECT version_num FROM alembic_version") == [("1",)]
        old.terminate()
        old.wait()
        assert finish(tidegate(*arguments, "--phase", "contract"))[0] == 0
        assert rows("SELECT version_num FROM alembic_version") == [("2",)]


def test_who_has_come_while_an_autocommit_block_ran_stops_a_contract_revision_behind_it(
    project: AlembicProject, tidegate: Tidegate, rows: Rows, database_url: str
) -> None:
    beats = "INSERT INTO tidegate_instances VALUES ('{0}', '{{{1}}}', '', now(), now(), now())"
    project.revision("1", sql="CREATE TABLE t (x int, y int)")
    contract = ("up", "--config", project.config, "--json", "--phase", "contract")
    assert finish(tidegate(*contract))[0] == 0
    block = "with op.get_context().autocommit_block():\n    op.execute({!r})\n"
    body = block.format(beats.format("old", 1)) + "op.execute('ALTER TABLE t DROP y')"
    project.written("2", "1", phase="contract", body=body)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(beats.format("new", 2).encode())
        code, report = finish(tidegate(*contract))
        assert (code, report.failure, report.revision) == (4, Failure.INCOMPATIBLE, "2"), report
        assert "would break what runs: old" in report.message
        assert rows("SELECT y FROM t") == []
        connection.execute("DELETE FROM tidegate_instances WHERE instance = 'old'")
        connection.execute("UPDATE tidegate_instances SET seen_at = now()")
    assert finish(tidegate(*contract))[0] == 0


@pytest.mark.parametrize(
    ("instance", "says"),
    [
        (Instance("a", frozenset({"2"}), "", 99, 99, 0), ""),
        (Instance("a", frozenset({"1"}), "", 99, 99, 0), "would break what runs: a"),
        (Instance("a", frozenset(), "", 99, 99, 0), "ships up to nothing"),
        # Of another branch, or newer: nobody here knows, so it may lack what is to be applied.
        (Instance("a", frozenset({"9"}), "", 99, 99, 0), "ships up to 9"),
        (Instance("a", frozenset({"9", "2"}), "", 99, 99, 0), ""),
        (Instance("a", frozenset({"1"}), "", 99, 99, -3600), "would break what runs: a"),
        (Instance("a", frozenset({"1"}), "", 99, 99, 3600), "the silence proves nothing"),
        # It was there, and ships the revision; whether it still runs does not matter.
        (Instance("a", frozenset({"2"}), "", 99, 99, 3600), ""),
    ],
)
def test_what_one_process_says_about_a_contract_revision(instance: Instance, says: str) -> None:
    assert says in words(guard.objections([instance], NEW, ["2"]).get("2"))
    assert bool(says) == bool(guard.objections([instance], NEW, ["2"]))


def test_a_witness_who_is_silent_as_well_is_none() -> None:
    old = Instance("old", frozenset({"1"}), "", 9000, 9000, 700)
    heard = Instance("new", frozenset({"2"}), "", 9000, 9000, 1)
    silent = replace(heard, silence=600)
    assert not guard.objections([old, heard], NEW, ["2"])
    assert "the silence proves nothing" in words(guard.objections([old, silent], NEW, ["2"])["2"])


def test_a_crowd_is_counted_and_not_listed() -> None:
    crowd = [Instance(f"pod-{n}", frozenset({"1"}), "shop:1", 99, 99, n / 10) for n in range(9)]
    message = words(guard.objections(crowd, NEW, ["2"])["2"])
    assert "pod-2 (image shop:1" in message
    assert message.endswith(" and 6 more")


def test_a_name_that_would_steer_a_terminal_is_shown_without_what_steers() -> None:
    odd = Instance("pod\x1b[2J", frozenset({"1\r"}), "shop\x07", 100, 90, 0)
    message = words(guard.objections([odd], NEW, ["2"])["2"])
    assert "pod?[2J (image shop?, ships up to 1?" in message


def test_status_shows_who_runs_what() -> None:
    both = (
        Instance("pod-1", frozenset({"2", "3"}), "shop:2", 100.4, 90, 0.6),
        Instance("pod-0", frozenset(), "", 900, 90, 7000),
    )
    assert instances.rows(both) == [
        ("pod-1", "shop:2", "2, 3", "100 s", "1 s ago"),
        ("pod-0", "?", "nothing", "900 s", "7000 s ago, gone or silent"),
    ]
    assert both[0].as_dict() == {
        "instance": "pod-1",
        "image": "shop:2",
        "heads": ["2", "3"],
        "uptime_seconds": 100,
        "seen_seconds_ago": 1,
        "seen": True,
    }


def test_rows_that_no_heartbeat_would_write_are_read_as_somebody_who_runs_anything(
    connection: psycopg.Connection,
) -> None:
    connection.execute(
        "INSERT INTO tidegate_instances VALUES "
        "('odd', '{NULL}', '', '-infinity', 'infinity', 'infinity')"
    )
    (odd,) = instances.read(connection, PLACE)
    assert (odd.heads, odd.seen) == (frozenset(), True)
    assert json.dumps(odd.as_dict(), allow_nan=False)
    assert "would break what runs: odd" in words(objection(connection))


def jump(connection: psycopg.Connection, by: str) -> None:
    """Move all that was written, as if the clock had been set ahead."""
    connection.execute(
        "UPDATE tidegate_instances SET started_at = started_at - %(by)s::interval, "
        "unbroken_since = unbroken_since - %(by)s::interval, "
        "seen_at = seen_at - %(by)s::interval",
        {"by": by},
    )


def objection(connection: psycopg.Connection) -> MigrateError | None:
    """What the guard says before revision 2."""
    try:
        guard.check(connection, PLACE, NEW, ["2"])
    except MigrateError as refused:
        return refused
    return None


def words(refused: MigrateError | None) -> str:
    """What it says; nothing if nothing."""
    return refused.message if refused else ""


def until_seen(connection: psycopg.Connection, process: subprocess.Popen[bytes]) -> None:
    """Wait for the process to report."""

    def is_seen() -> bool:
        seen = [each.name for each in instances.read(connection, PLACE) if each.seen]
        return any(f"/{process.pid}/" in name for name in seen)

    until(is_seen)


def until(true: Callable[[], bool]) -> None:
    """Ask until the answer is yes."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "never true"
        time.sleep(0.05)
