"""The lint of pending revisions: findings, suppressions, old histories, squawk."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.migrate.project import AlembicProject
from tests.migrate.test_statements import Project
from tidegate.schema import Phase
from tidegate_migrate.lint.check import Classified, classify, lint
from tidegate_migrate.lint.findings import Finding, as_dicts, describe, errors
from tidegate_migrate.lint.rules import RULES, Level
from tidegate_migrate.lint.squawk import SQUAWK_RULES
from tidegate_migrate.lint_first import excuse, excused_as_contract
from tidegate_migrate.project import load

DOCS = Path(__file__).parents[2] / "docs" / "lint.md"


def findings(project: AlembicProject, *names: str) -> tuple[Finding, ...]:
    """Lint the revisions, all of them where none is named."""
    loaded = load(project.config)
    return lint(loaded, names or list(loaded.manifest.revisions))


def rules(found: tuple[Finding, ...]) -> set[str]:
    return {finding.rule for finding in found}


def test_an_expand_revision_that_drops_a_column_is_an_error_with_line_reason_and_safe_form(
    project: AlembicProject,
) -> None:
    project.revision("a", sql="ALTER TABLE users ADD b int;\nALTER TABLE users DROP email")
    (finding,) = findings(project)
    assert (finding.revision, finding.rule, finding.level) == ("a", "drop-column", Level.ERROR)
    assert finding.statement == "ALTER TABLE users DROP email"
    assert finding.line == 3
    assert finding.file_line
    assert "op.execute(" in Path(finding.file).read_text().splitlines()[finding.file_line - 1]
    assert finding.reason.startswith("drops column users.email: ")
    assert 'phase = "contract"' in finding.safe_form
    assert errors([finding]) == (finding,)


def test_a_contract_revision_may_break_older_images_but_not_block_the_table(
    project: AlembicProject,
) -> None:
    sql = "ALTER TABLE t DROP c; CREATE INDEX i ON t (d)"
    project.revision("a", sql=sql, phase="contract")
    assert rules(findings(project)) == {"require-concurrent-index-creation"}


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("CREATE INDEX i ON t (c)", "require-concurrent-index-creation"),
        ("DROP INDEX i", "require-concurrent-index-deletion"),
        ("REINDEX INDEX i", "require-concurrent-reindex"),
        ("ALTER TABLE t ADD FOREIGN KEY (c) REFERENCES u (id)", "adding-foreign-key-constraint"),
        ("ALTER TABLE t ADD CONSTRAINT k CHECK (c > 0)", "constraint-missing-not-valid"),
        ("ALTER TABLE t ALTER c SET NOT NULL", "adding-not-nullable-field"),
        ("ALTER TABLE t ADD c uuid DEFAULT gen_random_uuid()", "adding-field-with-default"),
        ("ALTER TABLE t ADD PRIMARY KEY (c)", "adding-serial-primary-key-field"),
        ("ALTER TABLE t ADD CONSTRAINT k UNIQUE (c)", "disallowed-unique-constraint"),
        ("ALTER DOMAIN d ADD CHECK (value > 0)", "ban-alter-domain-with-add-constraint"),
        ("ALTER TABLE t DETACH PARTITION p", "require-concurrent-partition-detach"),
        ("TRUNCATE t CASCADE", "ban-truncate-cascade"),
        (f"CREATE VIEW {'v' * 64} AS SELECT 1 AS a", "identifier-too-long"),
        (f"CREATE VIEW {'v$' * 32} AS SELECT 1 AS a", "identifier-too-long"),
        (f"CREATE VIEW {'ü' * 32} AS SELECT 1 AS a", "identifier-too-long"),
        ('CREATE VIEW "' + 32 * "v " + '" AS SELECT 1 AS a', "identifier-too-long"),
        ("create index i on t (c)", "require-concurrent-index-creation"),
        ("ALTER TABLE t ADD c int GENERATED ALWAYS AS (d) STORED", "adding-field-with-default"),
        ("ALTER TABLE t ADD EXCLUDE (c WITH =)", "constraint-missing-not-valid"),
    ],
)
def test_squawk_tells_what_blocks_a_table(sql: str, rule: str, project: AlembicProject) -> None:
    project.revision("a", sql=sql, phase="contract")
    assert rules(findings(project)) == {rule}
    assert SQUAWK_RULES.keys() >= {rule}


def test_a_column_that_is_computed_when_it_is_read_blocks_nobody(project: AlembicProject) -> None:
    virtual = "ALTER TABLE t ADD c int GENERATED ALWAYS AS (d) VIRTUAL"
    project.revision("a", sql=virtual)
    project.revision("b", sql=f"{virtual}, ADD e int GENERATED ALWAYS AS (d) STORED")
    assert [(each.revision, each.rule) for each in findings(project)] == [
        ("b", "adding-field-with-default")
    ]


def test_a_check_that_is_validated_where_it_is_added_blocks_and_in_a_step_of_its_own_does_not(
    tmp_path: Path,
) -> None:
    validate = "ALTER TABLE t VALIDATE CONSTRAINT k"
    add = "op.execute('ALTER TABLE t\\n  ADD CONSTRAINT k\\n  CHECK (c > 0) NOT VALID')"
    contract = "phase = 'contract'"
    project = Project(tmp_path / "project")
    project.revision("a", f"{add}\nop.execute('{validate}')", head=contract)
    project.revision(
        "b",
        f"{add}\nwith op.get_context().autocommit_block():\n    op.execute('{validate}')",
        head=contract,
    )
    loaded = load(tmp_path / "project" / "alembic.ini")
    (finding,) = lint(loaded, ["a"])
    assert (finding.rule, finding.statement) == ("constraint-missing-not-valid", validate)
    assert lint(loaded, ["b"]) == ()


def test_a_comment_at_the_end_of_a_statement_hides_nothing_of_the_next(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path / "project")
    project.revision("a", "op.execute('SELECT 1 -- note')\nop.create_index('i', 't', ['c'])")
    found = lint(load(tmp_path / "project" / "alembic.ini"), ["a"])
    assert rules(found) == {"require-concurrent-index-creation"}


def test_squawk_is_told_which_server_will_run_it(project: AlembicProject) -> None:
    project.revision("a", sql="ALTER TABLE t ADD c int DEFAULT 1")
    loaded = load(project.config)
    assert rules(lint(loaded, ["a"], 180004)) == set()
    assert rules(lint(loaded, ["a"], 100023)) == {"adding-field-with-default"}


def test_a_table_that_a_pending_revision_makes_can_be_changed_without_care(
    project: AlembicProject,
) -> None:
    project.revision("a", sql="CREATE TABLE t (c int); CREATE INDEX i ON t (c)")
    project.revision("b", "a", sql="CREATE INDEX j ON t (c); DROP INDEX i", phase="contract")
    assert findings(project) == ()
    assert rules(findings(project, "b")) == {
        "require-concurrent-index-creation",
        "require-concurrent-index-deletion",
    }


def test_a_table_that_may_be_there_already_and_one_that_is_hidden_are_in_use(
    project: AlembicProject,
) -> None:
    index = "CREATE INDEX i ON t (c)"
    project.revision("a", sql="CREATE TABLE IF NOT EXISTS t (c int)")
    project.revision("b", "a", sql="CREATE TEMP TABLE t (c int); CREATE INDEX j ON t (c)")
    project.revision("c", "b", sql=index)
    found = findings(project)
    assert rules(found) == {"require-concurrent-index-creation"}
    assert [finding.revision for finding in found] == ["c"]


def test_an_index_built_concurrently_in_an_autocommit_block_is_fine(tmp_path: Path) -> None:
    Project(tmp_path / "project").revision(
        "a",
        "op.execute('ALTER TABLE t ADD c int')\n"
        "with op.get_context().autocommit_block():\n"
        "    op.create_index('i', 't', ['c'], postgresql_concurrently=True)",
    )
    loaded = load(tmp_path / "project" / "alembic.ini")
    assert lint(loaded, ["a"]) == ()


def test_a_suppression_needs_a_reason_and_something_to_suppress(tmp_path: Path) -> None:
    ignore = {"drop-column": "no image since 1.4 reads it", "drop-table": " ", "rename-table": "x"}
    Project(tmp_path / "project").revision(
        "a", "op.drop_column('t', 'c')\nop.drop_table('u')", head=f"lint_ignore = {ignore!r}"
    )
    found = lint(load(tmp_path / "project" / "alembic.ini"), ["a"])
    by_rule = {finding.rule: finding for finding in found}
    assert by_rule["drop-column"].ignored == "no image since 1.4 reads it"
    assert {one.rule for one in errors(found)} == {"drop-table", "ignore-without-reason"}
    assert "drop-table" in by_rule["ignore-without-reason"].reason
    assert "rename-table" in by_rule["ignore-unused"].reason


def test_a_suppression_that_is_no_dictionary_is_an_error_and_no_crash(tmp_path: Path) -> None:
    Project(tmp_path / "project").revision(
        "a", "op.drop_column('t', 'c')", head="lint_ignore = ['drop-column']"
    )
    found = lint(load(tmp_path / "project" / "alembic.ini"), ["a"])
    assert {one.rule for one in errors(found)} == {"drop-column", "ignore-without-reason"}


def test_what_is_not_seen_of_a_revision_counts_as_a_break_unless_it_may_be_one(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path / "project")
    body = "op.get_bind().execute(sa.text('SELECT 1')).all()\nop.drop_column('t', 'c')"
    project.revision("a", body).revision("b", body, head="phase = 'contract'")
    loaded = load(tmp_path / "project" / "alembic.ini")
    expand, contract = lint(loaded, ["a", "b"])
    assert (expand.rule, expand.level) == ("not-renderable", Level.ERROR)
    assert "line 7: it reads what a statement returned" in expand.reason
    assert (contract.rule, contract.level) == ("not-renderable", Level.WARNING)
    excused = excuse(loaded.manifest, [expand])
    assert not errors(excused)
    assert excused_as_contract(loaded.manifest, excused).revisions["a"].phase is Phase.CONTRACT


def test_what_nobody_understands_is_told_and_the_rest_is_still_judged(
    project: AlembicProject,
) -> None:
    project.revision("a", sql="ALTER TABLE t FROB c; ALTER TABLE t DROP d")
    found = findings(project)
    assert rules(errors(found)) == {"drop-column"}
    assert rules(found) == {"drop-column", "not-understood"}


def test_without_squawk_the_own_rules_still_hold_and_a_warning_says_what_is_missing(
    project: AlembicProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    project.revision("a", sql="ALTER TABLE t DROP c; CREATE INDEX i ON t (d)")
    found = findings(project)
    assert rules(found) == {"drop-column", "squawk-unavailable"}
    assert "there is no program squawk" in describe(found)
    project.revision("a", sql="ALTER TABLE t DROP c")  # about which it has nothing to say
    assert rules(findings(project)) == {"drop-column"}


def test_an_old_history_is_classified_by_what_its_revisions_do(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.revision("a", "op.create_table('t', sa.Column('c', sa.Text))")
    project.revision("b", "op.drop_column('t', 'c')")
    project.revision("c", "sa.inspect(op.get_bind())")
    project.revision("d", "op.execute('SELECT 1')", head="phase = 'contract'")
    project.revision(
        "e", "op.drop_table('u')", head="lint_ignore = {'drop-table': 'never released'}"
    )
    found = classify(load(tmp_path / "project" / "alembic.ini"), ["a", "b", "c", "d", "e"])
    phases = {name: one.phase for name, one in found.items()}
    contract, expand = Phase.CONTRACT, Phase.EXPAND
    assert phases == {"a": expand, "b": contract, "c": contract, "d": contract, "e": expand}
    assert "drops column t.c" in found["b"].reason
    assert "it inspects the database" in found["c"].reason
    assert found["d"] == Classified(contract, "the revision declares it")


def test_findings_read_well_and_travel_as_json(project: AlembicProject) -> None:
    project.revision("a", sql="DROP INDEX CONCURRENTLY i;\nDROP TABLE t")
    found = findings(project)
    text = describe(found)
    assert re.match(r"a\.py:\d+: error: needs-autocommit\n", text)
    assert "    | DROP TABLE t" in text
    assert [entry["rule"] for entry in json.loads(json.dumps(as_dicts(found)))] == [
        finding.rule for finding in found
    ]
    assert describe([]) == ""


def test_the_documentation_has_a_row_for_every_rule_with_its_level() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (error|warning) \|", DOCS.read_text(), re.M))
    assert rows == {name: rule.level for name, rule in (RULES | SQUAWK_RULES).items()}
