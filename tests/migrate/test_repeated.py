"""What PostgreSQL answers to a statement that is done already."""

from __future__ import annotations

import psycopg
import pytest

from tidegate_migrate.repeated import is_answered_already

MADE = """
CREATE TABLE t (x int NOT NULL, i int GENERATED ALWAYS AS IDENTITY);
CREATE TABLE whole (x int) PARTITION BY LIST (x);
CREATE TABLE part (x int);
CREATE TABLE first PARTITION OF whole FOR VALUES IN (2);
CREATE SCHEMA s;
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TYPE e AS ENUM ('a');
"""


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE u ()",
        "CREATE SCHEMA r",
        "CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE k AS ENUM ('a')",
        "DROP TABLE t",
        "DROP SCHEMA s",
        "DROP FUNCTION f()",
        "DROP TYPE e",
        "ALTER TABLE t ADD y int",
        "ALTER TABLE t DROP x",
        "ALTER TABLE t RENAME x TO y",
        "ALTER TABLE t RENAME TO v",
        "ALTER TABLE t SET SCHEMA s",
        "ALTER TABLE whole DETACH PARTITION first",
        "ALTER TABLE t ADD PRIMARY KEY (x)",
        "ALTER TABLE t ADD CONSTRAINT t_x UNIQUE (x)",
        "ALTER TABLE t ALTER x ADD GENERATED ALWAYS AS IDENTITY",
        "ALTER TABLE t ALTER i DROP IDENTITY",
        "ALTER TABLE whole ATTACH PARTITION part FOR VALUES IN (1)",
        "ALTER TYPE e ADD VALUE 'b'",
        "ALTER TYPE e RENAME VALUE 'a' TO 'b'",
    ],
)
def test_a_statement_that_is_sent_twice_is_known_by_its_answer(
    statement: str, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(MADE.encode())
        connection.execute(statement.encode())
        with pytest.raises(psycopg.Error) as answered:
            connection.execute(statement.encode())
    assert is_answered_already(statement, answered.value.sqlstate or "")


@pytest.mark.parametrize(
    "statement", ["ALTER TABLE whole ADD x int", "CREATE INDEX t_x ON whole (x)", "SELECT FROM t"]
)
def test_another_answer_of_the_same_code_does_not_say_so(statement: str) -> None:
    for code in ("42809", "42P16", "55000", "22023"):
        assert not is_answered_already(statement, code)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE typo ADD COLUMN y int",
        "ALTER TABLE typo DROP COLUMN y",
        "CREATE INDEX i ON t (typo)",
        "DO $$ BEGIN PERFORM typo(); END $$",
        "INSERT INTO typo VALUES (1)",
        "UPDATE t SET x = 1 WHERE typo = 1",
    ],
)
def test_what_has_never_been_there_is_not_gone_already(statement: str, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(MADE.encode())
        with pytest.raises(psycopg.Error) as answered:
            connection.execute(statement.encode())
    assert not is_answered_already(statement, answered.value.sqlstate or "")
