"""What a revision's SQL does to an older image that still runs, and to those who wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate_migrate.lint.changes import breaches, makes
from tidegate_migrate.lint.parsing import split
from tidegate_migrate.statements import Statement

DO_DROP = "DO $$ BEGIN IF true THEN ALTER TABLE t DROP COLUMN c; END IF; END $$"


def judge(sql: str, fresh: frozenset[str] = frozenset()) -> set[str]:
    """Return the names of the rules that a revision of this SQL breaks."""
    statements = [Statement(one) for one in split(sql)]
    return {breach.rule.name for breach in breaches(statements, fresh)}


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("DROP TABLE t", "drop-table"),
        ("DROP TABLE IF EXISTS s.t CASCADE", "drop-table"),
        ("ALTER TABLE t DROP COLUMN c", "drop-column"),
        ("ALTER TYPE point3 DROP ATTRIBUTE z", "drop-column"),
        ("DROP VIEW v", "drop-object"),
        ("DROP MATERIALIZED VIEW v", "drop-object"),
        ("DROP TYPE mood", "drop-object"),
        ("DROP FUNCTION f(int)", "drop-object"),
        ("DROP SEQUENCE s", "drop-object"),
        ("DROP SCHEMA s CASCADE", "drop-object"),
        ("DROP EXTENSION citext", "drop-object"),
        ("DROP TRIGGER x ON t", "drop-object"),
        ("DROP POLICY p ON t", "drop-object"),
        ("DROP ROLE reader", "drop-object"),
        ("ALTER TABLE t ALTER c DROP DEFAULT", "drop-default"),
        ("ALTER TABLE t ALTER c DROP IDENTITY", "drop-default"),
        ("ALTER TABLE t ALTER c DROP EXPRESSION", "drop-default"),
        ("TRUNCATE t", "truncate-table"),
        ("ALTER TABLE t RENAME TO u", "rename-table"),
        ("ALTER TABLE t SET SCHEMA s", "rename-table"),
        ("ALTER TABLE t RENAME c TO d", "rename-column"),
        ("ALTER VIEW v RENAME COLUMN c TO d", "rename-column"),
        ("ALTER TYPE mood RENAME TO feeling", "rename-object"),
        ("ALTER TYPE mood RENAME VALUE 'sad' TO 'low'", "rename-object"),
        ("ALTER SCHEMA s RENAME TO r", "rename-object"),
        ("ALTER FUNCTION f(int) SET SCHEMA s", "rename-object"),
        ("ALTER TABLE t ALTER c TYPE varchar(10)", "change-type"),
        ("ALTER TABLE t ALTER c SET NOT NULL", "set-not-null"),
        ("ALTER TABLE t ADD CONSTRAINT n NOT NULL c NOT VALID", "set-not-null"),
        ("ALTER DOMAIN d SET NOT NULL", "set-not-null"),
        ("ALTER TABLE t ADD c int NOT NULL", "add-required-column"),
        ("ALTER TABLE t ADD c int NOT NULL DEFAULT NULL", "add-required-column"),
        ("ALTER TABLE t ADD c uuid PRIMARY KEY", "add-required-column"),
        ("ALTER TABLE t ADD c int; ALTER TABLE t ALTER c SET NOT NULL", "add-required-column"),
        (
            "ALTER TABLE t ADD c int NOT NULL DEFAULT 0; ALTER TABLE t ALTER c DROP DEFAULT",
            "add-required-column",
        ),
        ("ALTER TABLE t ADD c int CHECK (c > 0 AND c IS NOT NULL)", "add-required-column"),
        (
            "ALTER TABLE t ADD c int; ALTER TABLE t ADD CHECK (c IS NOT NULL) NOT VALID",
            "add-required-column",
        ),
        ("ALTER TABLE t ALTER c ADD GENERATED ALWAYS AS IDENTITY", "generated-always"),
        ("ALTER TABLE t ALTER c SET GENERATED ALWAYS", "generated-always"),
        ("CREATE POLICY p ON t AS RESTRICTIVE USING (false)", "row-security"),
        ("CREATE RULE r AS ON INSERT TO t DO INSTEAD NOTHING", "add-trigger"),
        ("ALTER TABLE t RENAME TO u; CREATE TABLE t (c int)", "rename-table"),
        ("CREATE OR REPLACE VIEW v AS SELECT 1 AS a", "replace-object"),
        ("CREATE OR REPLACE FUNCTION f() RETURNS int RETURN 1", "replace-object"),
        ("WITH x AS (DELETE FROM t RETURNING *) INSERT INTO u TABLE x", "whole-table-write"),
        ("MERGE INTO t USING u ON t.c = u.c WHEN MATCHED THEN DELETE", "whole-table-write"),
        ("DO $$ BEGIN UPDATE t SET c = 1 WHERE d = 2; COMMIT; END $$", "transaction-control"),
        ("SET lock_timeout = 0", "session-setting"),
        ("RESET ALL", "session-setting"),
        ("CALL p()", "not-understood"),
        ("DO $$ BEGIN CALL p(); END $$", "not-understood"),
        ("REVOKE SELECT ON t FROM reader", "revoke-right"),
        ("REVOKE admin FROM reader", "revoke-right"),
        ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "row-security"),
        ("ALTER TABLE t DETACH PARTITION p", "detach-partition"),
        ("ALTER TABLE t ADD CONSTRAINT k CHECK (c > 0) NOT VALID", "add-constraint"),
        ("ALTER TABLE t ADD FOREIGN KEY (c) REFERENCES u (id) NOT VALID", "add-constraint"),
        ("ALTER TABLE t ADD UNIQUE (c)", "add-constraint"),
        ("CREATE UNIQUE INDEX i ON t (c)", "add-constraint"),
        ("ALTER DOMAIN d ADD CHECK (value > 0)", "add-constraint"),
        ("CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()", "add-trigger"),
        ("DROP VIEW v; CREATE VIEW v AS SELECT 1 AS a", "replace-object"),
        ("ALTER TABLE t RENAME TO u; CREATE VIEW t AS SELECT * FROM u", "replace-object"),
        ("ALTER TABLE t DROP CONSTRAINT k", "drop-constraint"),
        ("DROP INDEX i", "drop-index"),
        ("ALTER TABLE t ALTER c DROP NOT NULL", "drop-not-null"),
        ("ALTER TABLE t OWNER TO someone", "change-owner"),
        ("ALTER TABLE t SET UNLOGGED", "rewrites-table"),
        ("REFRESH MATERIALIZED VIEW v", "rewrites-table"),
        ("CLUSTER t USING i", "rewrites-table"),
        ("ALTER TABLE t ADD c bigserial NOT NULL", "rewrites-table"),
        ("UPDATE t SET c = 1", "whole-table-write"),
        ("UPDATE t SET c = d WHERE c IS NULL", "whole-table-write"),
        ("DELETE FROM t", "whole-table-write"),
        ("LOCK TABLE t", "lock-table"),
        ("COMMIT", "transaction-control"),
        ("CREATE INDEX CONCURRENTLY i ON t (c)", "needs-autocommit"),
        ("DROP INDEX CONCURRENTLY i", "needs-autocommit"),
        ("REINDEX TABLE CONCURRENTLY t", "needs-autocommit"),
        ("VACUUM t", "needs-autocommit"),
        (DO_DROP, "drop-column"),
        ("DO $$ BEGIN EXECUTE 'DROP TABLE t'; END $$", "drop-table"),
        ("DO $$ BEGIN EXECUTE format('DROP TABLE %I', 't'); END $$", "not-understood"),
        ("DO $$ this is no PL/pgSQL $$", "not-understood"),
        ("ALTER TABLE t DORP c", "not-understood"),
    ],
)
def test_a_change_that_an_older_image_or_a_waiting_query_feels_is_found(
    sql: str, rule: str
) -> None:
    assert rule in judge(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t (c int NOT NULL); ALTER TABLE t DROP COLUMN c; DROP TABLE t",
        "ALTER TABLE t ADD c int",
        "ALTER TABLE t ADD c int NOT NULL DEFAULT 0",
        "CREATE TABLE u (c int); ALTER TABLE u ADD d bigserial NOT NULL",
        "ALTER TABLE t ADD c int NOT NULL GENERATED ALWAYS AS IDENTITY",
        "ALTER TABLE t ADD c int DEFAULT 0; ALTER TABLE t ALTER c SET NOT NULL",
        "ALTER TABLE t ADD c int NOT NULL; ALTER TABLE t ALTER c DROP NOT NULL",
        "ALTER TABLE t ADD c int; ALTER TABLE t RENAME c TO d; ALTER TABLE t DROP d",
        "ALTER TABLE t ADD c int; ALTER TABLE t ADD CHECK (c > 0)",
        "ALTER TABLE t ADD c int; CREATE UNIQUE INDEX i ON t (c)",
        "ALTER TABLE t ALTER c SET DEFAULT 1",
        "ALTER TABLE t VALIDATE CONSTRAINT k",
        "ALTER TYPE mood ADD VALUE 'calm'",
        "ALTER INDEX i RENAME TO j",
        "ALTER TABLE t RENAME CONSTRAINT a TO b",
        "DROP TRIGGER x ON t; "
        "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; SELECT 2 $$",
        "CREATE TABLE u (c int); CREATE OR REPLACE RULE r AS ON INSERT TO u DO INSTEAD NOTHING",
        "CREATE POLICY p ON t USING (true)",
        "SET LOCAL lock_timeout = '1s'",
        "ALTER TABLE t ADD c int DEFAULT 0 CHECK (c IS NOT NULL)",
        "ALTER TABLE t ADD c int CHECK (c IS NOT NULL OR d > 0)",
        "ALTER TABLE t ADD c int CHECK (coalesce(c, d) IS NOT NULL)",
        "ALTER TABLE t ALTER c SET GENERATED BY DEFAULT",
        "MERGE INTO t USING u ON t.c = u.c WHEN NOT MATCHED THEN INSERT VALUES (1)",
        "WITH x AS (DELETE FROM t WHERE c = 1 RETURNING *) INSERT INTO u SELECT * FROM x",
        "CREATE VIEW v AS SELECT 1 AS a; GRANT SELECT ON v TO reader; REVOKE ALL ON v FROM reader",
        "SELECT 'DROP TABLE t'; -- DROP TABLE t\n/* DROP TABLE t */ INSERT INTO t VALUES ($$;$$)",
        "UPDATE t SET c = 1 WHERE id = 7",
        "SAVEPOINT s; RELEASE s",
        "CREATE TEMP TABLE u AS SELECT * FROM t; UPDATE u SET c = 1; DROP TABLE u",
        "CREATE TEMP TABLE IF NOT EXISTS u (c int); ALTER TABLE u DROP c; TRUNCATE u",
        "",
        "-- nothing",
    ],
)
def test_a_change_that_nobody_feels_is_not_found(sql: str) -> None:
    assert judge(sql) == set()


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("CREATE TABLE IF NOT EXISTS t (c int); ALTER TABLE t DROP d", "drop-column"),
        ("CREATE TABLE IF NOT EXISTS t AS SELECT 1; DROP TABLE t", "drop-table"),
        ("CREATE OR REPLACE FUNCTION f() RETURNS int RETURN 1; DROP FUNCTION f()", "drop-object"),
        ("CREATE OR REPLACE VIEW v AS SELECT 1 AS a; DROP VIEW v", "drop-object"),
        (
            "DO $$ BEGIN CREATE TYPE mood AS ENUM ('sad'); "
            "EXCEPTION WHEN duplicate_object THEN NULL; END $$; DROP TYPE mood",
            "drop-object",
        ),
        ("ALTER TABLE t ADD IF NOT EXISTS c int; ALTER TABLE t DROP c", "drop-column"),
        ("ALTER TABLE t ADD IF NOT EXISTS c int; ALTER TABLE t RENAME c TO d", "rename-column"),
        ("ALTER TABLE t ADD IF NOT EXISTS c int; ALTER TABLE t ALTER c TYPE text", "change-type"),
        (
            "ALTER TABLE t ADD IF NOT EXISTS c int DEFAULT 0; ALTER TABLE t ALTER c SET NOT NULL",
            "set-not-null",
        ),
        (
            "ALTER TABLE t ADD IF NOT EXISTS c int DEFAULT 0; ALTER TABLE t ALTER c DROP DEFAULT",
            "drop-default",
        ),
        ("ALTER TABLE t ADD IF NOT EXISTS c int; CREATE UNIQUE INDEX i ON t (c)", "add-constraint"),
        ("ALTER TABLE t ADD IF NOT EXISTS c int NOT NULL", "add-required-column"),
        ("CREATE TEMP TABLE t (c int); ALTER TABLE public.t DROP d", "drop-column"),
        ("CREATE TEMP TABLE t (c int); DROP TABLE t; ALTER TABLE t DROP d", "drop-column"),
    ],
)
def test_what_may_have_been_there_before_is_judged_as_if_it_was(sql: str, rule: str) -> None:
    assert rule in judge(sql)


def test_a_view_that_is_made_again_is_replaced_whichever_way_it_is_written() -> None:
    assert judge("DROP VIEW v; CREATE OR REPLACE VIEW v AS SELECT 1 AS a") == {"replace-object"}


def test_what_needs_no_transaction_is_at_home_in_an_autocommit_block() -> None:
    for sql in ("CREATE INDEX CONCURRENTLY i ON t (c)", "DO $$ BEGIN COMMIT; END $$"):
        assert breaches([Statement(sql, in_transaction=False)]) == []


def test_on_a_table_that_no_one_uses_yet_nothing_is_blocked_but_its_readers_still_break() -> None:
    sql = "UPDATE t SET c = 1; ALTER TABLE t ALTER c TYPE bigint, DROP d"
    assert judge(sql) == {"whole-table-write", "rewrites-table", "change-type", "drop-column"}
    assert judge(sql, frozenset({"t"})) == {"change-type", "drop-column"}


def test_a_declared_old_type_tells_widening_from_narrowing() -> None:
    def change(old: str, new: str) -> set[str]:
        statement = Statement(f"ALTER TABLE t ALTER COLUMN c TYPE {new}", old_type=old)
        return {breach.rule.name for breach in breaches([statement])}

    assert change("VARCHAR(10)", "VARCHAR(20)") == set()
    assert change("VARCHAR", "TEXT") == set()
    assert change("INTEGER", "BIGINT") == {"rewrites-table"}
    assert change("VARCHAR(20)", "VARCHAR(10)") == {"change-type", "rewrites-table"}
    assert change("", "TEXT") == {"change-type", "rewrites-table"}
    assert change("TEXT", "TEXT USING upper(c)") == {"change-type", "rewrites-table"}
    assert change("VARCHAR(9)", "TEXT USING c::text") == set()


def test_a_type_that_makes_room_for_its_successor_is_judged_by_the_columns_that_change() -> None:
    sql = """
        ALTER TYPE mood RENAME TO mood_old;
        CREATE TYPE mood AS ENUM ('sad', 'calm');
        ALTER TABLE t ALTER c TYPE mood USING c::text::mood;
        DROP TYPE mood_old;
    """
    assert judge(sql) == {"change-type", "rewrites-table"}


def test_a_breach_names_the_statement_it_is_in() -> None:
    statements = [Statement("SELECT 1"), Statement("ALTER TABLE t ADD c int NOT NULL, DROP d")]
    assert {breach.statement for breach in breaches(statements)} == {1}


def test_what_is_renamed_is_not_new_to_those_who_use_it() -> None:
    assert makes([Statement("CREATE TABLE a ()"), Statement("ALTER TABLE t RENAME TO b")]) == {"a"}
    assert makes([Statement("CREATE TABLE IF NOT EXISTS t ()")]) == set()
    assert "t" not in makes([Statement("CREATE TEMP TABLE t ()")])


_WORDS = ["DROP TABLE t", "ALTER TABLE t ADD c int NOT NULL", "DO $$ BEGIN", "END $$", "EXECUTE"]
_MARKS = ["$$", "'", '"', "--", "/*", "*/", ";", "\0", "é", "COPY t FROM STDIN", "\\.", "BEGIN"]
_SNIPPETS = st.sampled_from([*_WORDS, *_MARKS])


@given(st.lists(_SNIPPETS | st.text(max_size=8), max_size=8))
def test_no_text_makes_the_lint_crash(parts: list[str]) -> None:
    sql = " ".join(parts)
    statements = split(sql)
    judge(sql)
    assert all(one.strip() for one in statements)


@given(st.lists(st.sampled_from(["SELECT 1", "DROP TABLE t", "SELECT ';'", "-- x\nSELECT 2"])))
def test_statements_are_told_apart_whatever_stands_between_them(parts: list[str]) -> None:
    found = split(" ; \n -- between;\n".join(parts))
    assert found == [part.removeprefix("-- x\n") for part in parts]


@pytest.mark.parametrize(
    "text",
    ["{} -- note", "{} /* a; */ -- b\n-- c", "{} -- note\n; SELECT 'é' -- --", "{}; -- note"],
)
@pytest.mark.parametrize("sql", ["SELECT '--' -- kept\n, 1", "ALTER TABLE t FROB c"])
def test_a_comment_after_a_statement_is_not_part_of_it(sql: str, text: str) -> None:
    found = split(text.format(sql))
    assert found[0] == sql
    assert found[1:] in ([], ["SELECT 'é'"])
