"""Which changes of a column's type lose nothing, and which write the table anew."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate_migrate.lint.column_types import ColumnType, TypeChange, compare
from tidegate_migrate.lint.parsing import read_type

_LENGTHS = st.one_of(st.just(()), st.tuples(st.integers(1, 6)))
_TYPES = st.one_of(
    st.builds(ColumnType, st.sampled_from(["varchar", "varbit", "timestamp", "time"]), _LENGTHS),
    st.builds(ColumnType, st.just("numeric"), st.tuples(st.integers(1, 6), st.integers(0, 2))),
    st.builds(ColumnType, st.sampled_from(["text", "int2", "int4", "int8", "numeric", "jsonb"])),
)


@given(_TYPES, _TYPES, _TYPES)
def test_what_loses_nothing_in_two_steps_loses_nothing_in_one(
    a: ColumnType, b: ColumnType, c: ColumnType
) -> None:
    keeps = {TypeChange.NOTHING, TypeChange.WIDENS, TypeChange.REWRITES}
    if compare(a, b) in keeps and compare(b, c) in keeps:
        assert compare(a, c) in keeps


@given(_TYPES, _TYPES)
def test_only_a_type_of_the_same_values_can_be_widened_both_ways(
    a: ColumnType, b: ColumnType
) -> None:
    if compare(a, b) is compare(b, a) is TypeChange.WIDENS:
        assert {a, b} == {ColumnType("varchar"), ColumnType("text")}


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("varchar(10)", "varchar(10)", TypeChange.NOTHING),
        ("varchar(10)", "varchar(20)", TypeChange.WIDENS),
        ("varchar(10)", "varchar", TypeChange.WIDENS),
        ("varchar(10)", "text", TypeChange.WIDENS),
        ("text", "varchar", TypeChange.WIDENS),
        ("numeric(8,2)", "numeric(10,2)", TypeChange.WIDENS),
        ("numeric(8,2)", "numeric", TypeChange.WIDENS),
        ("timestamp(3)", "timestamp(6)", TypeChange.WIDENS),
        ("timestamptz(3)", "timestamptz", TypeChange.WIDENS),
        ("varbit(8)", "varbit(16)", TypeChange.WIDENS),
        ("smallint", "integer", TypeChange.REWRITES),
        ("integer", "bigint", TypeChange.REWRITES),
        ("real", "double precision", TypeChange.REWRITES),
    ],
)
def test_postgresql_writes_a_table_anew_exactly_where_we_say_so(
    old: str, new: str, change: TypeChange, database_url: str
) -> None:
    before, after = read_type(old), read_type(new)
    assert before
    assert after
    assert compare(before, after) is change
    with psycopg.connect(database_url) as connection:
        connection.execute(f"CREATE TABLE t (c {old})".encode())
        connection.execute("INSERT INTO t VALUES (NULL)")
        files = []
        for sql in ("SELECT 1", f"ALTER TABLE t ALTER c TYPE {new}"):
            connection.execute(sql.encode())
            row = connection.execute("SELECT pg_relation_filenode('t')").fetchone()
            assert row
            files.append(row[0])
    assert (files[0] != files[1]) is (change is TypeChange.REWRITES)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("text", "varchar(20)"),
        ("varchar(20)", "varchar(10)"),
        ("varchar", "varchar(10)"),
        ("bigint", "integer"),
        ("numeric(8,2)", "numeric(8,4)"),
        ("numeric", "numeric(8,2)"),
        ("timestamp", "timestamptz"),
        ("json", "jsonb"),
        ("integer", "text"),
        ("text[]", "varchar(3)[]"),
        ("mood", "text"),
    ],
)
def test_a_change_that_may_lose_or_turn_a_value_breaks_older_images(old: str, new: str) -> None:
    after = read_type(new)
    assert after
    assert compare(read_type(old), after) is TypeChange.BREAKS
    assert compare(None, after) is TypeChange.BREAKS


def test_what_is_no_type_is_read_as_none() -> None:
    assert read_type("no type at all(") is None
