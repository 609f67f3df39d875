"""A revision that commits before it is done, and fails, goes on where it was."""

from __future__ import annotations

import signal

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.migrate.conftest import Rows, Tidegate, Watched, finish
from tests.migrate.project import AlembicProject
from tests.migrate.test_locks import ENVS
from tidegate.schema import Failure
from tidegate_migrate.journal import Unfinished
from tidegate_migrate.resuming import Course, digest

UP = ("up", "--nobody-runs-older", "--json", "--config")
HEAD = "import sqlalchemy as sa\nfrom uuid import uuid4\n"
BLOCK = """
with op.get_context().autocommit_block():
    op.create_index("t_x", "t", ["x"], postgresql_concurrently=True)
"""
NOT_AGAIN = {
    "a change that looks first": """
if "y" not in [each["name"] for each in sa.inspect(op.get_bind()).get_columns("t")]:
    op.add_column("t", sa.Column("y", sa.Text))
""",
    "a text that is new each time": """
op.add_column("t", sa.Column("y", sa.Text))
op.execute(f"INSERT INTO t (x) VALUES ('{uuid4()}')")
""",
    "statements past op": """
bind = op.get_bind()
bind.execute(sa.text("ALTER TABLE t ADD y text"))
bind.exec_driver_sql("INSERT INTO t (x) VALUES ('50%%')")
bind.execute(sa.text("INSERT INTO t (x) VALUES (:x)"), [{"x": "1"}, {"x": "2"}])
changed = bind.execute(sa.text("UPDATE t SET x = '2' WHERE x = '2'")).rowcount
assert bind.execute(sa.text("SELECT count(*) FROM t")).scalar_one() == 3
for _ in range(9):
    if bind.execute(sa.text("UPDATE t SET x = '3' WHERE x = '2'")).rowcount == 0:
        break
else:
    raise RuntimeError("it goes on and on")
assert changed == 1
""",
    "statements that do not look like writing": """
bind = op.get_bind()
op.execute("CREATE FUNCTION grow() RETURNS void LANGUAGE sql AS 'INSERT INTO t VALUES (1)'")
bind.execute(sa.text("SELECT grow()"))
bind.execute(sa.text("SELECT * INTO copied FROM t"))
serial = sa.Table("serial", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
serial.create(bind, checkfirst=True)
bind.execute(serial.insert().values())
op.execute("INSERT INTO t SELECT 'only one' FROM serial")
op.add_column("t", sa.Column("y", sa.Text))
""",
    "an ORM's rows": """
from sqlalchemy.orm import Session, declarative_base
class Row(declarative_base()):
    __tablename__ = "t"
    x = sa.Column(sa.Text, primary_key=True)
with Session(op.get_bind()) as session:
    row = Row(x="1")
    session.add(row)
    session.flush()
    row.x = "2"
    session.flush()
op.add_column("t", sa.Column("y", sa.Text))
""",
    "a type that comes with its column": """
op.create_table("u", sa.Column("kind", sa.Enum("a", "b", name="kind")))
op.add_column("t", sa.Column("y", sa.Text))
""",
}


@pytest.fixture
def table(project: AlembicProject) -> AlembicProject:
    """A project whose first revision makes a table."""
    return project.revision("a", sql="CREATE TABLE t (x text)")


@ENVS
@pytest.mark.parametrize("body", NOT_AGAIN.values(), ids=NOT_AGAIN.keys())
def test_what_a_block_has_committed_is_not_done_again_whatever_it_says_this_time(
    body: str, env: str, table: AlembicProject, watched: Watched, tidegate: Tidegate, rows: Rows
) -> None:
    (table.config.parent / "env.py").write_text(env)
    table.written("b", "a", head=HEAD, body=body + BLOCK)
    assert watched(table.config, "autocommit statement begun").returncode == -signal.SIGKILL
    before = rows("SELECT count(*) FROM t")
    code, report = finish(tidegate(*UP, table.config))
    assert (code, report.heads) == (0, ("b",)), report
    assert rows("SELECT count(*) FROM t") == before
    assert rows("SELECT count(y) FROM t") == [(0,)]


ANSWERED = {
    "it reads how many rows a statement has changed that is passed over": """
import os, pathlib
again = pathlib.Path(__file__).with_name("again")
number, _ = again.exists(), again.touch()
if op.get_bind().execute(sa.text(f"INSERT INTO t (x) VALUES ('{number}')")).rowcount:
    op.execute("SELECT 1")
""",
    "it reads now what one of them returned": """
insert = sa.text("INSERT INTO t (x) VALUES (1) RETURNING x")
op.get_bind().execute(insert).scalar_one()
""",
    "it locks rows to read them": """
op.execute("INSERT INTO t (x) VALUES (1)")
op.get_bind().execute(sa.text("SELECT x FROM t FOR UPDATE")).all()
""",
    "cannot execute INSERT in a read-only transaction": """
op.get_bind().connection.cursor().execute("INSERT INTO t (x) VALUES (1)")
""",
}


@pytest.mark.parametrize(("words", "body"), ANSWERED.items(), ids=list(ANSWERED))
def test_what_can_be_neither_passed_over_nor_done_again_is_refused_with_the_way_out(
    words: str, body: str, table: AlembicProject, watched: Watched, tidegate: Tidegate, rows: Rows
) -> None:
    table.written("b", "a", head=HEAD, body=body + BLOCK)
    assert watched(table.config, "autocommit statement begun").returncode == -signal.SIGKILL
    code, report = finish(tidegate(*UP, table.config))
    assert (code, report.failure, report.revision) == (1, Failure.MIGRATION_ERROR, "b")
    assert words in report.message
    assert "tidegate_unfinished" in report.hint
    assert rows("SELECT count(*) FROM t") == [(1,)]


def test_a_temporary_table_that_went_with_the_earlier_run_is_told_with_the_way_out(
    table: AlembicProject, watched: Watched, tidegate: Tidegate
) -> None:
    made = "op.execute('CREATE TEMP TABLE kept AS SELECT 1 AS x')"
    table.written("b", "a", body=made + BLOCK + "op.execute('INSERT INTO t TABLE kept')")
    assert watched(table.config, "autocommit statement begun").returncode == -signal.SIGKILL
    code, report = finish(tidegate(*UP, table.config))
    assert (code, report.failure) == (1, Failure.MIGRATION_ERROR)
    assert "it fails now: UndefinedTable" in report.message
    assert "tidegate_unfinished" in report.hint


def test_what_is_set_beside_other_work_is_set_again_without_that(
    table: AlembicProject, watched: Watched, tidegate: Tidegate, rows: Rows
) -> None:
    body = """
op.execute("CREATE SCHEMA aside")
op.execute("SET search_path TO aside, public; INSERT INTO t VALUES ('a;b')")
"""
    rest = "op.execute('CREATE TABLE u (x int)')"
    table.written("b", "a", body=body + BLOCK + rest)
    assert watched(table.config, "autocommit statement begun").returncode == -signal.SIGKILL
    code, report = finish(tidegate(*UP, table.config))
    assert (code, report.heads) == (0, ("b",)), report
    assert rows("SELECT * FROM t") == [("a;b",)]
    assert rows("SELECT to_regclass('aside.u') IS NOT NULL") == [(True,)]


def test_a_block_that_has_ended_is_passed_over_with_what_it_sent_past_op(
    table: AlembicProject, tidegate: Tidegate, database_url: str, rows: Rows
) -> None:
    body = """
op.execute("SET search_path TO aside, public")
op.execute("CREATE TABLE public.grown (x int)")
grow = "CREATE FUNCTION public.grow() RETURNS void LANGUAGE sql"
op.execute(grow + " AS 'INSERT INTO public.grown VALUES (1)'")
with op.get_context().autocommit_block():
    op.get_bind().exec_driver_sql("CREATE INDEX CONCURRENTLY t_x ON t (x)")
    op.get_bind().exec_driver_sql("SELECT public.grow()")
op.execute("INSERT INTO t SELECT 1 / (SELECT count(*) FROM t)")
op.execute("CREATE TABLE u (x int)")
"""
    up = (*UP, table.config)
    assert finish(tidegate(*up))[0] == 0
    table.written("b", "a", body=body)
    assert finish(tidegate(*up))[0] == 1
    rows("INSERT INTO t VALUES ('1') RETURNING x")
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE SCHEMA aside")
    code, report = finish(tidegate(*up))
    assert (code, report.heads) == (0, ("b",)), report
    assert rows("SELECT count(*) FROM t") == [(2,)]
    assert rows("SELECT count(*) FROM grown") == [(1,)]
    # What is set for the session is set again.
    assert rows("SELECT to_regclass('aside.u') IS NOT NULL") == [(True,)]


def test_a_block_that_is_not_come_to_any_more_leaves_nothing_out_in_silence(
    table: AlembicProject, tidegate: Tidegate, rows: Rows
) -> None:
    body = """
op.execute("ALTER TABLE t ADD y int")
if not sa.inspect(op.get_bind()).get_indexes("t"):
    with op.get_context().autocommit_block():
        op.execute("CREATE INDEX CONCURRENTLY t_x ON t (x)")
op.execute("INSERT INTO t SELECT 1 / (SELECT count(*) FROM t)")
"""
    up = (*UP, table.config)
    assert finish(tidegate(*up))[0] == 0
    table.written("b", "a", head=HEAD, body=body)
    assert finish(tidegate(*up))[0] == 1
    rows("INSERT INTO t VALUES ('1') RETURNING x")
    code, report = finish(tidegate(*up))
    assert (code, report.failure, report.heads) == (1, Failure.MIGRATION_ERROR, ("a",))
    assert "it ends now before it comes to where that was" in report.message


def test_blocks_that_come_only_where_they_are_needed_are_refused_and_not_left_out(
    table: AlembicProject, watched: Watched, tidegate: Tidegate, rows: Rows
) -> None:
    body = """
done = [each["name"] for each in sa.inspect(op.get_bind()).get_indexes("t")]
for name in sorted({"t_1", "t_2", "t_3"}.difference(done)):
    with op.get_context().autocommit_block():
        op.create_index(name, "t", ["x"], postgresql_concurrently=True)
"""
    table.written("b", "a", head=HEAD, body=body)
    assert watched(table.config, "autocommit statement begun", 2).returncode == -signal.SIGKILL
    code, report = finish(tidegate(*UP, table.config))
    assert (code, report.failure) == (1, Failure.MIGRATION_ERROR), report
    assert "a block that had ended holds another statement now" in report.message
    rows("DELETE FROM tidegate_unfinished RETURNING revision")  # the way out: it looks itself
    assert finish(tidegate(*UP, table.config))[0] == 0
    assert rows("SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass AND indisvalid") == [
        (3,)
    ]


@ENVS
def test_in_a_block_a_statement_is_known_by_its_values_too_and_what_is_set_is_set_again(
    env: str, table: AlembicProject, watched: Watched, tidegate: Tidegate, rows: Rows
) -> None:
    (table.config.parent / "env.py").write_text(env)
    body = """
op.execute("CREATE SCHEMA aside")
with op.get_context().autocommit_block():
    op.execute("SET search_path TO aside, public")
    there = op.get_bind().execute(sa.text("SELECT x FROM t")).scalars().all()
    for x in sorted({"1", "2", "3"}.difference(there)):
        op.execute(sa.text("INSERT INTO t VALUES (:x)").bindparams(x=x))
    op.execute("CREATE TABLE u (x int)")
"""
    table.written("b", "a", head=HEAD, body=body)
    assert watched(table.config, "autocommit statement begun", 2).returncode == -signal.SIGKILL
    code, report = finish(tidegate(*UP, table.config))
    assert (code, report.heads) == (0, ("b",)), report
    assert rows("SELECT x FROM t ORDER BY 1") == [("1",), ("2",), ("3",)]
    assert rows("SELECT to_regclass('aside.u') IS NOT NULL") == [(True,)]


ALONE = "with op.get_context().autocommit_block():\n    op.execute({!r})\n"


def test_an_index_that_has_become_a_constraint_is_known_to_have_done_so(
    table: AlembicProject, watched: Watched, tidegate: Tidegate, rows: Rows
) -> None:
    constraint = "ALTER TABLE t ADD CONSTRAINT t_pk PRIMARY KEY USING INDEX t_pk"
    index = "CREATE UNIQUE INDEX CONCURRENTLY t_pk ON t (x)"
    table.written("b", "a", body=ALONE.format(index) + ALONE.format(constraint))
    assert watched(table.config, "autocommit statement ran", 2).returncode == -signal.SIGKILL
    code, report = finish(tidegate(*UP, table.config))
    assert (code, report.heads) == (0, ("b",)), report
    assert rows("SELECT conname FROM pg_constraint WHERE contype = 'p' AND conname = 't_pk'")


def test_a_statement_in_doubt_stays_in_doubt_where_it_fails_for_another_reason(
    table: AlembicProject, watched: Watched, tidegate: Tidegate, database_url: str, rows: Rows
) -> None:
    table.written("b", "a", body=ALONE.format("ALTER TABLE t ADD y int"))
    assert watched(table.config, "autocommit statement ran").returncode == -signal.SIGKILL
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT FROM t")
        code, report = finish(tidegate(*UP, table.config, "--deadline", "0.5"))
        assert (code, report.failure) == (3, Failure.LOCK_TIMEOUT)
    code, report = finish(tidegate(*UP, table.config))
    assert (code, report.heads) == (0, ("b",)), report


def test_a_type_that_came_with_its_table_is_known_to_have_come(
    table: AlembicProject, watched: Watched, tidegate: Tidegate
) -> None:
    body = """
with op.get_context().autocommit_block():
    op.create_table("u", sa.Column("kind", sa.Enum("a", "b", name="kind")))
    op.execute("CREATE INDEX CONCURRENTLY t_x ON t (x)")
"""
    table.written("b", "a", head=HEAD, body=body)
    assert watched(table.config, "autocommit statement begun", 3).returncode == -signal.SIGKILL
    code, report = finish(tidegate(*UP, table.config))
    assert (code, report.heads) == (0, ("b",)), report


def test_a_partition_that_was_left_half_detached_is_detached(
    project: AlembicProject, tidegate: Tidegate, database_url: str, rows: Rows
) -> None:
    detach = 'ALTER TABLE t DETACH PARTITION "t%s" CONCURRENTLY'
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (x int) PARTITION BY LIST (x)")
        connection.execute('CREATE TABLE "t%s" PARTITION OF t FOR VALUES IN (1)')
        with psycopg.connect(database_url) as reader:
            reader.execute("SELECT FROM t")
            connection.execute("SET statement_timeout = '300ms'")
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute(detach.encode())
        assert rows("SELECT inhdetachpending FROM pg_inherits") == [(True,)]
    project.written("a", body=ALONE.format(detach))
    code, report = finish(tidegate(*UP, project.config))
    assert (code, report.heads) == (0, ("a",)), report
    assert rows("SELECT FROM pg_inherits") == []


@pytest.mark.parametrize("what", ["INDEX t_x", 'TABLE "t%s"'])
def test_what_an_earlier_reindex_has_left_is_dropped(
    what: str, project: AlembicProject, tidegate: Tidegate, database_url: str, rows: Rows
) -> None:
    reindex = f"REINDEX {what.replace(' ', ' CONCURRENTLY ')}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute('CREATE TABLE "t%s" (x int)')
        connection.execute('CREATE INDEX t_x ON "t%s" (x)')
        with psycopg.connect(database_url) as reader:
            reader.execute('SELECT FROM "t%s"')
            connection.execute("SET statement_timeout = '300ms'")
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute(reindex.encode())
    indexes = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = '\"t%s\"'::regclass"
    assert len(rows(indexes)) == 2
    project.written("a", body=ALONE.format(reindex))
    code, report = finish(tidegate(*UP, project.config))
    assert (code, report.heads, rows(indexes)) == (0, ("a",), [("t_x",)]), report


@ENVS
@pytest.mark.parametrize("name", ["", '"50%s"'])
def test_an_index_that_failed_leaves_none_beside_the_one_that_is_built_in_the_end(
    name: str, env: str, project: AlembicProject, tidegate: Tidegate, database_url: str, rows: Rows
) -> None:
    (project.config.parent / "env.py").write_text(env)
    index = f'CREATE UNIQUE INDEX CONCURRENTLY {name} ON "t%s" (x)'
    project.written("a", body=ALONE.format(index))
    up = (*UP, project.config)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute('CREATE TABLE "t%s" (x int, y int)')
        connection.execute('CREATE INDEX ON "t%s" (y)')
        connection.execute('INSERT INTO "t%s" VALUES (1), (1)')
        for _ in range(2):
            assert finish(tidegate(*up))[0] == 1
        connection.execute('TRUNCATE "t%s"')
    code, report = finish(tidegate(*up))
    assert (code, report.heads) == (0, ("a",)), report
    assert rows(
        "SELECT indisunique, indisvalid FROM pg_index WHERE indrelid = '\"t%s\"'::regclass "
        "ORDER BY 1"
    ) == [(False, True), (True, True)]


Parts = list[list[str]]


def course(earlier: Unfinished, checksum: str = "the same") -> Course:
    return Course(earlier, lambda: checksum, changed=ValueError)


def go(
    following: Course, parts: Parts, strength: int, so_far: Unfinished
) -> tuple[Unfinished, list[tuple[int, str]], bool]:
    """Run up to ``strength`` statements: what is noted then, what is committed, whether it ended.

    Every second part is a block.
    """
    noted = so_far
    committed: list[tuple[int, str]] = []
    open_: list[tuple[int, str]] = []
    for number, part in enumerate(parts):
        if number % 2:
            following.end_transaction(wrote=bool(open_))
        elif number:
            following.end_block()
        if number:
            committed, open_ = committed + open_, []
            noted = following.entry() if following.is_new else noted
        for statement in part:
            following.met(statement)
            alone = number % 2 == 1
            if following.passing:
                if alone:
                    following.pass_over(digest(statement))
                continue
            if alone and following.is_done(digest(statement)):
                continue
            if not strength:
                return noted, committed, False
            strength -= 1
            if alone:
                following.begin(digest(statement))
                following.finished()
                committed.append((number, statement))
                noted = following.entry()
            else:
                following.count()
                open_.append((number, statement))
    following.finish()
    return noted, committed + open_, True


@given(
    parts=st.lists(st.lists(st.sampled_from("abc"), max_size=4), min_size=1, max_size=6),
    strengths=st.lists(st.integers(0, 6), max_size=8),
    says_the_time=st.booleans(),
)
def test_however_often_a_run_ends_early_each_statement_is_committed_once_and_in_order(
    parts: Parts, strengths: list[int], says_the_time: bool
) -> None:
    noted, done = Unfinished(), list[tuple[int, str]]()
    for attempt, strength in enumerate([*strengths, 99]):
        said = [
            [f"{each} {attempt}" if says_the_time and not number % 2 else each for each in part]
            for number, part in enumerate(parts)
        ]
        noted, committed, ended = go(course(noted), said, strength, noted)
        done += committed
        if ended:
            break
    expected = [(number, each) for number, part in enumerate(parts) for each in part]
    assert [(number, each[0]) for number, each in done] == expected


@given(
    parts=st.lists(st.lists(st.sampled_from("abc"), max_size=4), min_size=1, max_size=6),
    strength=st.integers(0, 12),
    data=st.data(),
)
def test_a_file_that_was_changed_goes_on_only_where_nothing_that_is_committed_was(
    parts: Parts, strength: int, data: st.DataObject
) -> None:
    noted, committed, ended = go(course(Unfinished()), parts, strength, Unfinished())
    if ended or not committed:
        return
    mended = [*map(list, parts), ["new"]]
    at = data.draw(st.integers(0, len(parts) - 1))
    position = data.draw(st.integers(0, len(parts[at])))
    mended[at].insert(position, "new")
    if (at, position) >= (noted.part, len(noted.alone)):
        assert go(course(noted, "another"), mended, 99, noted)[2]
    else:
        with pytest.raises(ValueError, match=r"no longer begins|holds another statement"):
            go(course(noted, "another"), mended, 99, noted)


@given(
    blocks=st.lists(st.lists(st.sampled_from("abcdef"), max_size=3), min_size=1, max_size=5),
    strength=st.integers(0, 15),
    gone=st.data(),
)
def test_blocks_that_come_only_where_they_are_needed_leave_nothing_out_in_silence(
    blocks: Parts, strength: int, gone: st.DataObject
) -> None:
    parts = [part for block in blocks for part in ([], block)]
    noted, committed, _ = go(course(Unfinished()), parts, strength, Unfinished())
    needed = [each for each in blocks if gone.draw(st.booleans())]
    left = [part for block in needed for part in ([], block)]
    try:
        _, more, _ = go(course(noted), left, 99, noted)
    except ValueError:
        return
    said = [each for block in needed for each in block]
    assert not set(said) - {each for _, each in committed + more}


def test_what_was_in_doubt_stays_so_until_it_is_known_to_be_done() -> None:
    noted = Unfinished("the same", 1, 1, begun=("a",))
    following = course(noted)
    following.end_transaction(wrote=False)
    following.begin("b")
    assert following.entry().begun == ("a", "b")
    following.failed()
    assert following.in_doubt("a")
    assert not following.in_doubt("b")
    following.begin("a")
    following.failed()  # of a lock, say
    assert following.entry().begun == ("a",)
    following.begin("a")
    following.finished()
    assert following.entry().begun == ()
