"""Finds what a revision's statements do against the rules. Pure: text in, breaches out.

What a revision makes itself, no older image knows: it may do with it as it likes. So all of a
revision is read before any of it is judged. What it makes only IF NOT EXISTS may be an old one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from postgast import pg_query_pb2 as pg

from tidegate_migrate.lint import rules
from tidegate_migrate.lint.column_types import TypeChange, compare
from tidegate_migrate.lint.parsing import (
    Node,
    Parsed,
    column_type,
    dotted,
    is_temporary,
    object_name,
    parse_all,
    read_type,
    relation,
    unwrap,
)
from tidegate_migrate.lint.rules import Breach, Rule
from tidegate_migrate.statements import Statement

__all__ = ["adds_virtual_columns", "breaches", "makes", "touches"]

Key: TypeAlias = tuple[str, str]
"""A kind of object and its name; of a trigger or constraint the table's name comes first."""

# Kinds that share a name space, or that one statement turns into another.
_FAMILY: Final = {
    "foreign table": "table",
    "matview": "view",
    "domain": "type",
    "procedure": "function",
    "routine": "function",
    "aggregate": "function",
    "tabconstraint": "constraint",
}
_WORDS: Final = {"matview": "materialized view"}
# Nothing an image asks for by name.
_UNNAMED: Final = {
    "domconstraint",
    "index",
    "policy",
    "publication",
    "rule",
    "statistic ext",
    "tabconstraint",
    "trigger",
}
_QUIET_DROPS: Final = {"cast", "event trigger", "publication", "statistic ext", "subscription"}
_SERIALS: Final = {"serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"}
_COMPUTING: Final = {"CONSTR_IDENTITY", "CONSTR_GENERATED"}
_CONSTRAINT_WORDS: Final = {
    "CONSTR_CHECK": "a CHECK constraint",
    "CONSTR_UNIQUE": "a UNIQUE constraint",
    "CONSTR_PRIMARY": "a primary key",
    "CONSTR_FOREIGN": "a foreign key",
    "CONSTR_EXCLUSION": "an EXCLUDE constraint",
}
_REWRITING: Final = {
    "AT_SetLogged": "makes table {table} logged",
    "AT_SetUnLogged": "makes table {table} unlogged",
    "AT_SetAccessMethod": "changes the access method of table {table}",
    "AT_SetTableSpace": "moves table {table} to another tablespace",
    "AT_SetExpression": "changes the expression of column {table}.{column}",
}
_ROW_EXCLUSIVE_LOCK: Final = 3  # the strongest that reads and writes do not wait for
_ALWAYS: Final = ord("a")  # GENERATED ALWAYS, as the parse tree has it
_SAVEPOINTS: Final = {"SAVEPOINT", "RELEASE", "ROLLBACK_TO"}


def breaches(statements: Sequence[Statement], fresh: Collection[str] = ()) -> list[Breach]:
    """Judge one revision's statements.

    ``fresh`` names tables that no one uses yet since a pending revision makes them: on them
    nothing can be blocked.
    """
    return _Reader(statements, frozenset(fresh)).read()


def makes(statements: Iterable[Statement]) -> frozenset[str]:
    """Return the names of the tables, views and indexes that statements make; no one uses them."""
    return frozenset(
        name
        for _, parsed in _read(statements)
        if parsed.kind != "rename_stmt"
        for kind, name in _made(parsed)
        if kind in {"table", "view", "index"} and (_is_sure(parsed) or is_temporary(name))
    )


def touches(statements: Sequence[Statement], at: int) -> frozenset[str]:
    """Return the tables and indexes that one of the statements changes; empty where unknown."""
    names: set[str] = set()
    for index, (kind, node, *_) in _read(statements[: at + 1]):
        if index < at or not kind:
            continue
        if kind == "drop_stmt":
            names |= {object_name(entry) for entry in node.objects}
        elif "relation" in node.DESCRIPTOR.fields_by_name:
            names.add(relation(node.relation))
    return frozenset(names)


def adds_virtual_columns(statements: Sequence[Statement], at: int) -> bool:
    """Tell whether all columns that one of the statements adds are computed when they are read."""
    kinds = [
        constraint.generated_kind
        for index, (kind, node, *_) in _read(statements[: at + 1])
        if index == at and kind == "alter_table_stmt"
        for entry in node.cmds
        if pg.AlterTableType.Name(entry.alter_table_cmd.subtype) == "AT_AddColumn"
        for constraint in _constraints(_definition(entry.alter_table_cmd).column_def)
        if pg.ConstrType.Name(constraint.contype) in {"CONSTR_DEFAULT", *_COMPUTING}
    ]
    return bool(kinds) and set(kinds) == {"v"}


def _read(statements: Iterable[Statement]) -> Sequence[tuple[int, Parsed]]:
    return _parse(tuple(statement.sql for statement in statements))


@lru_cache(maxsize=1)
def _parse(texts: tuple[str, ...]) -> Sequence[tuple[int, Parsed]]:
    """Parse the statements of a revision once for all that is asked about it in turn."""
    return tuple(parse_all(texts))


@dataclass(slots=True)
class _Added:
    """A column that the revision adds to a table that was there before.

    Where it is not ``sure``, the column itself may have been there.
    """

    required: bool
    has_default: bool
    statement: int
    sure: bool


class _Reader:
    """Reads a revision's statements in order and keeps what they make."""

    def __init__(self, statements: Sequence[Statement], fresh: frozenset[str]) -> None:
        self._statements = statements
        self._fresh = fresh
        self._found: list[Breach] = []
        self._added: dict[Key, _Added] = {}
        self._dropped: set[Key] = set()
        self._made_at: dict[Key, list[int]] = defaultdict(list)
        self._parsed = _read(statements)
        self._index = self._position = 0

    def read(self) -> list[Breach]:
        for position, (_, parsed) in enumerate(self._parsed):
            for key in _made(parsed):
                self._made_at[key].append(position)
        for position, (index, parsed) in enumerate(self._parsed):
            self._position, self._index = position, index
            if not parsed.kind:
                self._find(rules.NOT_UNDERSTOOD, parsed.trouble)
            else:
                self._judge(parsed.kind, parsed.node)
        for (table, column), added in self._added.items():
            if added.required and not added.has_default:
                self._index = added.statement
                self._find(rules.ADD_REQUIRED_COLUMN, f"requires the new column {table}.{column}")
        return self._found

    def _judge(self, kind: str, node: Node) -> None:
        if judge := getattr(self, f"_{kind}", None):
            judge(node)
        if "with_clause" in node.DESCRIPTOR.fields_by_name:
            for entry in node.with_clause.ctes:
                self._judge(*unwrap(entry.common_table_expr.ctequery))

    def _find(self, rule: Rule, what: str) -> None:
        self._found.append(Breach(rule, self._index, what))

    def _is_new(self, kind: str, name: str) -> bool:
        """Tell whether the revision has made it by now."""
        return is_temporary(name) or any(
            at < self._position and _is_sure(self._parsed[at][1])
            for at in self._made_at.get((kind, name), ())
        )

    def _comes_again(self, kind: str, name: str) -> bool:
        """Tell whether the revision makes one of the same name later on."""
        return any(at > self._position for at in self._made_at.get((kind, name), ()))

    def _is_known(self, table: str) -> bool:
        """Tell whether an older image may know the table (or view)."""
        return not (self._is_new("table", table) or self._is_new("view", table))

    def _is_busy(self, table: str) -> bool:
        return self._is_known(table) and table not in self._fresh

    def _outside_of_a_transaction(self, what: str) -> None:
        if self._statements[self._index].in_transaction:
            self._find(rules.NEEDS_AUTOCOMMIT, what)

    # One method for each kind of node, by the node's name.

    def _drop_stmt(self, node: Node) -> None:
        plain = _kind(node.remove_type)
        kind = _FAMILY.get(plain, plain)
        for entry in node.objects:
            name = object_name(entry)
            if node.concurrent:
                self._outside_of_a_transaction(f"drops index {name} CONCURRENTLY")
            if self._is_new(kind, name) or plain in _QUIET_DROPS:
                continue
            self._dropped.add((kind, name))
            what = f"drops {_WORDS.get(plain, plain)} {name}"
            if kind == "table":
                self._find(rules.DROP_TABLE, what)
            elif not self._comes_again(kind, name):
                self._find(rules.DROP_INDEX if kind == "index" else rules.DROP_OBJECT, what)
            elif kind in {"view", "function"}:
                self._find(rules.REPLACE_OBJECT, f"replaces {_WORDS.get(plain, plain)} {name}")

    def _alter_table_stmt(self, node: Node) -> None:
        table = relation(node.relation)
        is_type = node.objtype == pg.OBJECT_TYPE
        if self._is_new("type" if is_type else "table", table) or self._is_new("view", table):
            return
        for entry in node.cmds:
            command = entry.alter_table_cmd
            name = pg.AlterTableType.Name(command.subtype)
            if name in _REWRITING:
                self._rewrite(table, _REWRITING[name].format(table=table, column=command.name))
            elif judge := getattr(self, name, None):
                judge(table, command)

    def AT_AddColumn(self, table: str, command: Node) -> None:  # noqa: N802 - PostgreSQL's names
        column = _definition(command).column_def
        constraints = _constraints(column)
        is_serial = column_type(column.type_name).name in _SERIALS
        kinds = {pg.ConstrType.Name(constraint.contype) for constraint in constraints}
        self._added[table, column.colname] = _Added(
            required=bool(kinds & {"CONSTR_NOTNULL", "CONSTR_PRIMARY"})
            or any(column.colname in _never_null(each.raw_expr) for each in constraints),
            has_default=is_serial or any(map(_is_default, constraints)),
            statement=self._index,
            sure=not (command.missing_ok or self._parsed[self._position][1].maybe),
        )
        if is_serial and "CONSTR_PRIMARY" not in kinds:  # of that squawk tells
            self._rewrite(table, f"numbers every row in the new column {table}.{column.colname}")

    def _is_added(self, table: str, column: str) -> bool:
        """Tell whether the revision has added the column by now, and no one before it."""
        added = self._added.get((table, column))
        return added is not None and added.sure

    def AT_DropColumn(self, table: str, command: Node) -> None:  # noqa: N802
        is_added = self._is_added(table, command.name)
        self._added.pop((table, command.name), None)
        if not is_added:
            self._find(rules.DROP_COLUMN, f"drops column {table}.{command.name}")

    def AT_ColumnDefault(self, table: str, command: Node) -> None:  # noqa: N802
        self._change_default(table, command, sets=command.HasField("def"))

    def AT_DropIdentity(self, table: str, command: Node) -> None:  # noqa: N802
        self._change_default(table, command, sets=False)

    AT_DropExpression = AT_DropIdentity

    def _change_default(self, table: str, command: Node, *, sets: bool) -> None:
        if added := self._added.get((table, command.name)):
            added.has_default = sets
            added.statement = self._index
        if not sets and not self._is_added(table, command.name):
            self._find(rules.DROP_DEFAULT, f"drops the default of column {table}.{command.name}")

    def AT_AddIdentity(self, table: str, command: Node) -> None:  # noqa: N802
        if added := self._added.get((table, command.name)):
            added.has_default = True
        always = _definition(command).constraint.generated_when == "a"
        if always and not self._is_added(table, command.name):
            self._find(rules.GENERATED_ALWAYS, f"generates column {table}.{command.name} ALWAYS")

    def AT_SetIdentity(self, table: str, command: Node) -> None:  # noqa: N802
        options = (entry.def_elem for entry in _definition(command).list.items)
        if any(
            each.defname == "generated" and each.arg.integer.ival == _ALWAYS for each in options
        ):
            self._find(rules.GENERATED_ALWAYS, f"generates column {table}.{command.name} ALWAYS")

    def AT_SetNotNull(self, table: str, command: Node) -> None:  # noqa: N802
        self._forbid_null(table, command.name)

    def _forbid_null(self, table: str, column: str) -> None:
        if added := self._added.get((table, column)):
            added.required = True
            added.statement = self._index
        if not self._is_added(table, column):
            self._find(rules.SET_NOT_NULL, f"forbids NULL in column {table}.{column}")

    def AT_DropNotNull(self, table: str, command: Node) -> None:  # noqa: N802
        if added := self._added.get((table, command.name)):
            added.required = False
        if not self._is_added(table, command.name):
            self._find(rules.DROP_NOT_NULL, f"allows NULL in column {table}.{command.name}")

    def AT_AlterColumnType(self, table: str, command: Node) -> None:  # noqa: N802
        if self._is_added(table, command.name):
            return
        definition = _definition(command).column_def
        old = read_type(declared) if (declared := self._statements[self._index].old_type) else None
        change = compare(old, column_type(definition.type_name))
        if _converts(definition, command.name):
            change = TypeChange.BREAKS
        what = f"changes the type of column {table}.{command.name}"
        if change is TypeChange.BREAKS:
            known = "" if old else " (from one that is not declared here)"
            self._find(rules.CHANGE_TYPE, what + known)
        if change in {TypeChange.BREAKS, TypeChange.REWRITES}:
            self._rewrite(table, what)

    def AT_AddConstraint(self, table: str, command: Node) -> None:  # noqa: N802
        constraint = _definition(command).constraint
        kind = pg.ConstrType.Name(constraint.contype)
        if kind == "CONSTR_NOTNULL":
            self._forbid_null(table, constraint.keys[0].string.sval)
        elif kind in _CONSTRAINT_WORDS and not constraint.indexname:
            unenforced = kind in {"CONSTR_CHECK", "CONSTR_FOREIGN"} and not constraint.is_enforced
            for name in () if unenforced else _never_null(constraint.raw_expr):
                if added := self._added.get((table, name)):
                    added.required = True
                    added.statement = self._index
            if not unenforced and not self._all_added(table, _columns(constraint)):
                self._find(rules.ADD_CONSTRAINT, f"adds {_CONSTRAINT_WORDS[kind]} to table {table}")

    def _all_added(self, table: str, columns: Iterable[str]) -> bool:
        """Tell whether the columns are all new: what an older image writes leaves them out."""
        return bool(names := list(columns)) and all(self._is_added(table, name) for name in names)

    def AT_DropConstraint(self, table: str, command: Node) -> None:  # noqa: N802
        name = f"{table}.{command.name}"
        if not self._is_new("constraint", name) and not self._comes_again("constraint", name):
            self._find(rules.DROP_CONSTRAINT, f"drops constraint {command.name} of table {table}")

    def AT_DetachPartition(self, table: str, command: Node) -> None:  # noqa: N802
        partition = _definition(command).partition_cmd
        what = f"detaches partition {relation(partition.name)} of table {table}"
        if partition.concurrent:
            self._outside_of_a_transaction(f"{what} CONCURRENTLY")
        self._find(rules.DETACH_PARTITION, what)

    def AT_DropInherit(self, table: str, command: Node) -> None:  # noqa: N802
        parent = relation(_definition(command).range_var)
        self._find(rules.DETACH_PARTITION, f"detaches table {table} from {parent}")

    def AT_EnableRowSecurity(self, table: str, _: Node) -> None:  # noqa: N802
        self._find(rules.ROW_SECURITY, f"turns on row security for table {table}")

    AT_ForceRowSecurity = AT_EnableRowSecurity

    def AT_ChangeOwner(self, table: str, _: Node) -> None:  # noqa: N802
        self._find(rules.CHANGE_OWNER, f"gives table {table} another owner")

    def _rewrite(self, table: str, what: str) -> None:
        if self._is_busy(table):
            self._find(rules.REWRITES_TABLE, what)

    def _rename_stmt(self, node: Node) -> None:
        plain = _kind(node.rename_type)
        table = relation(node.relation)
        if plain in {"column", "attribute"}:
            owner = "type" if plain == "attribute" else "table"
            is_added = self._is_added(table, node.subname)
            if added := self._added.pop((table, node.subname), None):
                self._added[table, node.newname] = added
            if not (is_added or self._is_new(owner, table) or self._is_new("view", table)):
                what = f"renames {plain} {table}.{node.subname} to {node.newname}"
                self._find(rules.RENAME_COLUMN, what)
        elif plain not in _UNNAMED:
            name = object_name(node.object) or table or node.subname
            self._move(plain, name, f"renames {{}} to {node.newname}")

    def _alter_object_schema_stmt(self, node: Node) -> None:
        name = object_name(node.object) or relation(node.relation)
        self._move(_kind(node.object_type), name, f"moves {{}} to schema {node.newschema}")

    def _move(self, plain: str, name: str, what: str) -> None:
        kind = _FAMILY.get(plain, plain)
        whole = what.format(f"{_WORDS.get(plain, plain)} {name}")
        stays = any(self._comes_again(other, name) for other in {kind, "view", "table"})
        if self._is_new(kind, name):
            return
        # A table in its place has none of its rows.
        stays = stays and not (kind == "table" and self._comes_again("table", name))
        if stays and kind in {"table", "view", "function"}:
            self._find(rules.REPLACE_OBJECT, whole)
        elif not stays:
            self._find(rules.RENAME_TABLE if kind == "table" else rules.RENAME_OBJECT, whole)

    def _alter_enum_stmt(self, node: Node) -> None:
        name = dotted(node.type_name)
        if node.old_val and not self._is_new("type", name):
            self._find(rules.RENAME_OBJECT, f"renames the value {node.old_val!r} of type {name}")

    def _alter_domain_stmt(self, node: Node) -> None:
        name = dotted(node.type_name)
        if self._is_new("type", name):
            return
        match node.subtype:
            case "C":
                self._find(rules.ADD_CONSTRAINT, f"adds a constraint to domain {name}")
            case "O":
                self._find(rules.SET_NOT_NULL, f"forbids NULL in domain {name}")
            case "T" if not node.HasField("def"):
                self._find(rules.DROP_DEFAULT, f"drops the default of domain {name}")

    def _index_stmt(self, node: Node) -> None:
        table = relation(node.relation)
        if node.concurrent:
            self._outside_of_a_transaction(f"builds index {node.idxname} CONCURRENTLY")
        columns = [entry.index_elem.name for entry in node.index_params]
        if node.unique and self._is_known(table) and not self._all_added(table, columns):
            self._find(rules.ADD_CONSTRAINT, f"adds a unique index to table {table}")

    def _create_trig_stmt(self, node: Node) -> None:
        table = relation(node.relation)
        key = ("trigger", f"{table}.{node.trigname}")
        if self._is_known(table) and key not in self._dropped:
            self._find(rules.ADD_TRIGGER, f"adds trigger {node.trigname} to table {table}")

    def _rule_stmt(self, node: Node) -> None:
        if self._is_known(table := relation(node.relation)):
            self._find(rules.ADD_TRIGGER, f"adds rule {node.rulename} to table {table}")

    def _create_policy_stmt(self, node: Node) -> None:
        table = relation(node.table)
        if not node.permissive and self._is_known(table):
            what = f"adds the restrictive policy {node.policy_name} to table {table}"
            self._find(rules.ROW_SECURITY, what)

    def _view_stmt(self, node: Node) -> None:
        self._replace(node, "view", relation(node.view))

    def _create_function_stmt(self, node: Node) -> None:
        self._replace(node, "function", dotted(node.funcname))

    def _replace(self, node: Node, kind: str, name: str) -> None:
        if node.replace and not self._is_new(kind, name) and (kind, name) not in self._dropped:
            self._find(rules.REPLACE_OBJECT, f"replaces {kind} {name}, if there is one")

    def _call_stmt(self, node: Node) -> None:
        self._find(rules.NOT_UNDERSTOOD, f"calls procedure {dotted(node.funccall.funcname)}")

    def _variable_set_stmt(self, node: Node) -> None:
        if not node.is_local and node.kind != pg.VAR_SET_MULTI:
            self._find(rules.SESSION_SETTING, f"sets {node.name or 'all'} for the whole session")

    def _grant_stmt(self, node: Node) -> None:
        if node.is_grant or node.targtype != pg.ACL_TARGET_OBJECT:
            return
        kind = _FAMILY.get(plain := _kind(node.objtype), plain)
        names = [object_name(entry) for entry in node.objects]
        known = [
            name for name in names if not (self._is_new(kind, name) or not self._is_known(name))
        ]
        if known:
            self._find(rules.REVOKE_RIGHT, f"revokes a right on {plain} {', '.join(known)}")

    def _grant_role_stmt(self, node: Node) -> None:
        if not node.is_grant:
            self._find(rules.REVOKE_RIGHT, "revokes the membership in a role")

    def _drop_role_stmt(self, _: Node) -> None:
        self._find(rules.DROP_OBJECT, "drops a role")

    def _drop_owned_stmt(self, _: Node) -> None:
        self._find(rules.DROP_OBJECT, "drops all that a role owns")

    def _dropdb_stmt(self, node: Node) -> None:
        self._find(rules.DROP_OBJECT, f"drops database {node.dbname}")
        self._outside_of_a_transaction("drops a database")

    def _alter_owner_stmt(self, node: Node) -> None:
        name = object_name(node.object) or relation(node.relation)
        kind = _kind(node.object_type)
        if not self._is_new(_FAMILY.get(kind, kind), name):
            self._find(rules.CHANGE_OWNER, f"gives {kind} {name} another owner")

    def _truncate_stmt(self, node: Node) -> None:
        for table in (relation(entry.range_var) for entry in node.relations):
            if self._is_known(table):
                self._find(rules.TRUNCATE_TABLE, f"empties table {table}")

    def _update_stmt(self, node: Node) -> None:
        self._write_rows("updates", node)

    def _delete_stmt(self, node: Node) -> None:
        self._write_rows("deletes from", node)

    def _merge_stmt(self, node: Node) -> None:
        clauses = (entry.merge_when_clause for entry in node.merge_when_clauses)
        table = relation(node.relation)
        if self._is_busy(table) and any(
            each.command_type in {pg.CMD_UPDATE, pg.CMD_DELETE} for each in clauses
        ):
            self._find(rules.WHOLE_TABLE_WRITE, f"merges into table {table}")

    def _write_rows(self, verb: str, node: Node) -> None:
        table = relation(node.relation)
        condition, _ = unwrap(node.where_clause)
        # `WHERE new IS NULL` is how a whole table is filled.
        if condition in {"", "null_test"} and self._is_busy(table):
            self._find(rules.WHOLE_TABLE_WRITE, f"{verb} table {table}, all of it")

    def _lock_stmt(self, node: Node) -> None:
        for table in (relation(entry.range_var) for entry in node.relations):
            if node.mode > _ROW_EXCLUSIVE_LOCK and self._is_busy(table):
                self._find(rules.LOCK_TABLE, f"locks table {table}")

    def _refresh_mat_view_stmt(self, node: Node) -> None:
        if not node.concurrent:
            view = relation(node.relation)
            self._rewrite(view, f"refreshes materialized view {view}, not CONCURRENTLY")

    def _cluster_stmt(self, node: Node) -> None:
        table = relation(node.relation)
        self._rewrite(table, f"clusters table {table}")

    def _vacuum_stmt(self, node: Node) -> None:
        if node.is_vacuumcmd:
            self._outside_of_a_transaction("runs VACUUM")
        if any(option.def_elem.defname == "full" for option in node.options):
            for entry in node.rels:
                table = relation(entry.vacuum_relation.relation)
                self._rewrite(table, f"runs VACUUM FULL on table {table}")

    def _reindex_stmt(self, node: Node) -> None:
        if any(option.def_elem.defname == "concurrently" for option in node.params):
            self._outside_of_a_transaction("runs REINDEX CONCURRENTLY")

    def _createdb_stmt(self, _: Node) -> None:
        self._outside_of_a_transaction("makes a database")

    def _alter_system_stmt(self, _: Node) -> None:
        self._outside_of_a_transaction("runs ALTER SYSTEM")

    def _transaction_stmt(self, node: Node) -> None:
        kind = pg.TransactionStmtKind.Name(node.kind).removeprefix("TRANS_STMT_")
        # A DO block may commit its own steps where no transaction is around it.
        in_block = self._parsed[self._position][1].maybe
        outside = in_block and not self._statements[self._index].in_transaction
        if kind not in _SAVEPOINTS and not outside:
            self._find(rules.TRANSACTION_CONTROL, f"runs {kind.replace('_', ' ')}")


def _is_sure(parsed: Parsed) -> bool:
    """Tell whether what a statement makes cannot have been there before."""
    made = parsed.node.base_stmt if parsed.kind == "create_foreign_table_stmt" else parsed.node
    conditional = getattr(made, "if_not_exists", False) or getattr(made, "replace", False)
    return not (conditional or parsed.maybe)


def _made(parsed: Parsed) -> list[Key]:
    """Return what a statement makes, also by giving something another name."""
    kind, node, *_ = parsed
    match kind:
        case "create_stmt":
            return [("table", relation(node.relation))]
        case "create_foreign_table_stmt":
            return [("table", relation(node.base_stmt.relation))]
        case "create_table_as_stmt":
            made = "view" if node.objtype == pg.OBJECT_MATVIEW else "table"
            return [(made, relation(node.into.rel))]
        case "view_stmt":
            return [("view", relation(node.view))]
        case "index_stmt":
            return [("index", node.idxname)]
        case "create_seq_stmt":
            return [("sequence", relation(node.sequence))]
        case "create_enum_stmt" | "create_range_stmt":
            return [("type", dotted(node.type_name))]
        case "composite_type_stmt":
            return [("type", relation(node.typevar))]
        case "create_domain_stmt":
            return [("type", dotted(node.domainname))]
        case "create_function_stmt":
            return [("function", dotted(node.funcname))]
        case "define_stmt":
            plain = _kind(node.kind)
            return [(_FAMILY.get(plain, plain), dotted(node.defnames))]
        case "create_schema_stmt":
            return [("schema", node.schemaname)]
        case "create_extension_stmt":
            return [("extension", node.extname)]
        case "create_trig_stmt":
            return [("trigger", f"{relation(node.relation)}.{node.trigname}")]
        case "create_policy_stmt":
            return [("policy", f"{relation(node.table)}.{node.policy_name}")]
        case "alter_table_stmt":
            return _made_constraints(node)
        case "rename_stmt":
            plain = _kind(node.rename_type)
            return [(_FAMILY.get(plain, plain), node.newname)]
    return []


def _made_constraints(node: Node) -> list[Key]:
    table = relation(node.relation)
    commands = (entry.alter_table_cmd for entry in node.cmds)
    return [
        ("constraint", f"{table}.{_definition(command).constraint.conname}")
        for command in commands
        if command.subtype == pg.AT_AddConstraint
    ]


def _definition(command: Node) -> Node:
    """Return the field ``def``, whose name is a word of Python."""
    return getattr(command, "def")


def _kind(object_type: int) -> str:
    """Return an object's kind in words: ``table``, ``foreign table``."""
    name: str = pg.ObjectType.Name(object_type)
    return name.removeprefix("OBJECT_").replace("_", " ").lower()


def _is_default(constraint: Node) -> bool:
    """Tell whether a column's constraint gives a row that leaves the column out a value."""
    match pg.ConstrType.Name(constraint.contype):
        case "CONSTR_DEFAULT":
            kind, value = unwrap(constraint.raw_expr)
            return not (kind == "a_const" and value.isnull)
        case name if name in _COMPUTING:
            return True
    return False


def _constraints(column: Node) -> list[Node]:
    return [entry.constraint for entry in column.constraints]


def _converts(definition: Node, column: str) -> bool:
    """Tell whether USING does more than cast the column to its new type."""
    kind, expression = unwrap(definition.raw_default)
    if not kind:
        return False
    inner, reference = unwrap(expression.arg) if kind == "type_cast" else (kind, expression)
    return inner != "column_ref" or dotted(reference.fields[-1:]) != column


def _columns(constraint: Node) -> list[str]:
    """Return the columns that a constraint speaks of; none where it speaks of something else."""
    if constraint.keys or constraint.fk_attrs:
        return [entry.string.sval for entry in (*constraint.keys, *constraint.fk_attrs)]
    return sorted(_references(constraint.raw_expr))


def _never_null(expression: Node) -> set[str]:
    """Return the columns that a CHECK refuses NULL in."""
    kind, node = unwrap(expression)
    if kind == "bool_expr" and node.boolop == pg.AND_EXPR:
        return set().union(*map(_never_null, node.args))
    if kind == "null_test" and node.nulltesttype == pg.IS_NOT_NULL:
        inner, _ = unwrap(node.arg)
        return _references(node.arg) if inner == "column_ref" else set()
    return set()


def _references(expression: Node) -> set[str]:
    from postgast import walk

    names: set[str] = set()
    for _, node in walk(expression):
        if type(node).DESCRIPTOR.name == "ColumnRef":
            names.add(node.fields[-1].string.sval)
    return names
