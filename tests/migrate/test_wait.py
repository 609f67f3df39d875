"""`tidegate migrate wait`, the init container: hold a new pod back until its image may serve."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.freezing import Way
from tests.migrate.conftest import Tidegate, finish
from tests.migrate.project import AlembicProject
from tests.pgbouncer import Pgbouncer
from tidegate.schema import Failure, Phase, Verdict


def test_it_ends_when_the_migration_is_through_and_says_what_it_waits_for(
    project: AlembicProject, tidegate: Tidegate, pgbouncer: Pgbouncer
) -> None:
    project.revision("a").revision("b", "a", phase="contract")
    pooled = pgbouncer("transaction")  # a pod may have no other way to the database
    run = tidegate("wait", "--config", project.config, "--json", DATABASE_URL=pooled)
    assert run.stderr
    assert "for revision a" in run.stderr.readline()
    assert finish(tidegate("up", "--config", project.config, "--json", "--to", "a"))[0] == 0
    code, report = finish(run)
    assert (code, report.verdict) == (0, Verdict.CONTRACT_PENDING)


def test_a_migration_that_does_not_come_in_time_is_named(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    project.revision("a")
    run = tidegate("wait", "--config", project.config, "--json", "--timeout", "0.1")
    code, report = finish(run)
    assert (code, report.failure) == (3, Failure.LOCK_TIMEOUT)
    assert "lacks revision a" in report.message
    assert (report.verdict, report.pending) == (Verdict.BEHIND, {"a": Phase.EXPAND})


def test_what_waiting_does_not_mend_is_not_waited_for(tmp_path: Path, tidegate: Tidegate) -> None:
    old = AlembicProject(tmp_path / "old").revision("a")
    new = AlembicProject(tmp_path / "new").revision("a").revision("b", "a", phase="contract")
    assert finish(tidegate("up", "--config", new.config, "--json"))[0] == 0
    code, report = finish(tidegate("wait", "--config", old.config, "--json"))
    assert (code, report.failure, report.revision) == (4, Failure.INCOMPATIBLE, "b")
    assert (report.verdict, report.heads) == (Verdict.AHEAD_INCOMPATIBLE, ("b",))
    apart = AlembicProject(tmp_path / "apart").revision("a").revision("c", "a")
    code, report = finish(tidegate("wait", "--config", apart.config, "--json"))
    assert (code, report.failure) == (4, Failure.INCOMPATIBLE)


def test_a_database_that_is_away_is_waited_for_as_long(
    project: AlembicProject, tidegate: Tidegate
) -> None:
    project.revision("a")
    url = "postgresql://nobody@127.0.0.1:1/nowhere"
    run = tidegate("wait", "--config", project.config, "--json", "--timeout", "1", DATABASE_URL=url)
    code, report = finish(run)
    assert (code, report.failure) == (5, Failure.UNREACHABLE)


async def test_a_server_that_stands_still_holds_no_pod_past_the_time_out(
    project: AlembicProject, tidegate: Tidegate, database_url: str
) -> None:
    project.revision("a")
    async with Way(database_url).leading() as way:
        run = tidegate(
            "wait", "--config", project.config, "--json", "--timeout", "1", DATABASE_URL=way.url
        )
        assert run.stderr
        assert "for revision a" in await asyncio.to_thread(run.stderr.readline)
        way.freeze()
        code, report = await asyncio.to_thread(finish, run)
    assert (code, report.failure) == (5, Failure.UNREACHABLE)
    assert "has not answered" in report.message
