"""The locks that a plan shows, beside those that PostgreSQL takes."""

from __future__ import annotations

import psycopg
import pytest

from tidegate_migrate.table_locks import Mode, TableLock, locks

_TABLES = """
CREATE TABLE customers (id int PRIMARY KEY);
CREATE TABLE notes (id int PRIMARY KEY, customer int, body text);
CREATE TABLE days (day date) PARTITION BY RANGE (day);
CREATE TABLE monday PARTITION OF days FOR VALUES FROM ('2026-01-05') TO ('2026-01-06');
CREATE TABLE tuesday (day date);
CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM notes;
CREATE INDEX notes_body ON notes (body);
ALTER TABLE notes ADD CONSTRAINT body_there CHECK (body IS NOT NULL) NOT VALID;
CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER stops BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION stop();
"""
_TAKEN = """
SELECT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = %s AND l.granted AND c.relkind IN ('r', 'p', 'm') AND c.oid >= 16384
  AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
"""


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE notes ADD title text",
        "ALTER TABLE notes ADD owner int REFERENCES customers",
        "ALTER TABLE notes DROP body, ALTER customer SET NOT NULL",
        "ALTER TABLE notes ADD FOREIGN KEY (customer) REFERENCES customers NOT VALID",
        "ALTER TABLE notes VALIDATE CONSTRAINT body_there",
        "ALTER TABLE notes ALTER body SET STATISTICS 500",
        "ALTER TABLE notes DISABLE TRIGGER stops",
        "ALTER TABLE notes RENAME body TO words",
        "ALTER TABLE days DETACH PARTITION monday",
        "ALTER TABLE days ATTACH PARTITION tuesday DEFAULT",
        "CREATE INDEX ON notes (customer)",
        "CREATE TRIGGER again BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION stop()",
        "DROP TRIGGER stops ON notes",
        "DROP TABLE customers",
        "TRUNCATE notes",
        "UPDATE notes SET body = ''",
        "DO $$ BEGIN DELETE FROM notes; END $$",
        "LOCK notes IN SHARE MODE",
        "REFRESH MATERIALIZED VIEW totals",
    ],
)
def test_the_locks_told_are_those_that_postgresql_takes(sql: str, database_url: str) -> None:
    with psycopg.connect(database_url) as connection, psycopg.connect(database_url) as beside:
        connection.execute(_TABLES.encode())
        connection.commit()
        connection.execute(sql.encode())
        # From beside, where a dropped table is still seen.
        rows = beside.execute(_TAKEN, [connection.info.backend_pid]).fetchall()
        connection.rollback()
    taken: dict[str, Mode] = {}
    for table, name in rows:
        mode = next(each for each in Mode if name == each.words.title().replace(" ", "") + "Lock")
        taken[table] = max(mode, taken.get(table, mode))
    told = locks(sql)
    assert told is not None
    assert {lock.table: lock.mode for lock in told} == taken


def test_what_takes_no_lock_for_long_and_what_cannot_be_told_are_two_things() -> None:
    assert locks("CREATE TYPE mood AS ENUM ('good')") == ()
    assert locks("SELECT tidy_up()") is None
    assert locks("CREATE INDEX CONCURRENTLY i ON notes (body)") == (
        TableLock("notes", Mode.SHARE_UPDATE_EXCLUSIVE),
    )
