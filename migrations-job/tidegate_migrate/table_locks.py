"""Which locks a statement takes on tables that are there already, as far as its text tells. Pure.

The modes are those of PostgreSQL's manual, "Explicit Locking"; of several commands in one ALTER
TABLE the strongest counts. A table that only a foreign key refers to is named, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from postgast import pg_query_pb2 as pg

from tidegate_migrate.lint.parsing import Node, object_name, parse, relation, unwrap

__all__ = ["Mode", "TableLock", "locks"]


class Mode(IntEnum):
    """PostgreSQL's table locks, numbered as it does, from the weakest to the strongest."""

    ACCESS_SHARE = 1
    ROW_SHARE = 2
    ROW_EXCLUSIVE = 3
    SHARE_UPDATE_EXCLUSIVE = 4
    SHARE = 5
    SHARE_ROW_EXCLUSIVE = 6
    EXCLUSIVE = 7
    ACCESS_EXCLUSIVE = 8

    @property
    def words(self) -> str:
        """Return its name as SQL writes it."""
        return self.name.replace("_", " ")

    @property
    def keeps_waiting(self) -> str:
        """Say who waits while it is held; "" for nobody who reads or writes rows."""
        if self is Mode.ACCESS_EXCLUSIVE:
            return "reads and writes wait"
        return "writes wait" if self >= Mode.SHARE else ""


@dataclass(frozen=True, slots=True)
class TableLock:
    """A lock on a table, or on the table of an index."""

    table: str
    mode: Mode

    def __str__(self) -> str:
        waits = f" ({self.mode.keeps_waiting})" if self.mode.keeps_waiting else ""
        return f"{self.mode.words} on {self.table}{waits}"


def locks(sql: str) -> tuple[TableLock, ...] | None:
    """Return the strongest lock for each table; ``None`` where the text does not tell."""
    strongest: dict[str, Mode] = {}
    for kind, node, *_ in parse(sql):
        read = _READERS.get(kind)
        if read is None:
            return None
        for table, mode in read(node):
            strongest[table] = max(mode, strongest.get(table, mode))
    return tuple(TableLock(table, mode) for table, mode in strongest.items())


Locks = Iterator[tuple[str, Mode]]

# The commands of ALTER TABLE that are content with less than ACCESS EXCLUSIVE.
_MILD: Final = {
    "AT_ValidateConstraint": Mode.SHARE_UPDATE_EXCLUSIVE,
    "AT_SetStatistics": Mode.SHARE_UPDATE_EXCLUSIVE,
    "AT_SetOptions": Mode.SHARE_UPDATE_EXCLUSIVE,
    "AT_ResetOptions": Mode.SHARE_UPDATE_EXCLUSIVE,
    "AT_ClusterOn": Mode.SHARE_UPDATE_EXCLUSIVE,
    "AT_DropCluster": Mode.SHARE_UPDATE_EXCLUSIVE,
    "AT_AttachPartition": Mode.SHARE_UPDATE_EXCLUSIVE,
    "AT_EnableTrig": Mode.SHARE_ROW_EXCLUSIVE,
    "AT_DisableTrig": Mode.SHARE_ROW_EXCLUSIVE,
    "AT_EnableAlwaysTrig": Mode.SHARE_ROW_EXCLUSIVE,
    "AT_EnableReplicaTrig": Mode.SHARE_ROW_EXCLUSIVE,
    "AT_EnableTrigUser": Mode.SHARE_ROW_EXCLUSIVE,
    "AT_DisableTrigUser": Mode.SHARE_ROW_EXCLUSIVE,
    "AT_EnableTrigAll": Mode.SHARE_ROW_EXCLUSIVE,
    "AT_DisableTrigAll": Mode.SHARE_ROW_EXCLUSIVE,
}


def _alter_table(node: Node) -> Locks:
    table = relation(node.relation)
    if node.objtype == pg.OBJECT_INDEX:
        table = f"the table of index {table}"
    for entry in node.cmds:
        _, command = unwrap(entry)
        name = pg.AlterTableType.Name(command.subtype)
        # "def" is a word of Python's own.
        kind, definition = unwrap(getattr(command, "def"))
        if kind == "partition_cmd" and definition.concurrent:
            yield table, Mode.SHARE_UPDATE_EXCLUSIVE
        elif kind == "partition_cmd":
            yield table, _MILD.get(name, Mode.ACCESS_EXCLUSIVE)
            yield relation(definition.name), Mode.ACCESS_EXCLUSIVE
        elif kind == "constraint" and definition.contype == pg.CONSTR_FOREIGN:
            yield table, Mode.SHARE_ROW_EXCLUSIVE
            yield relation(definition.pktable), Mode.SHARE_ROW_EXCLUSIVE
        else:
            yield table, _MILD.get(name, Mode.ACCESS_EXCLUSIVE)
            if kind == "column_def":
                yield from _references(definition)


def _references(column: Node) -> Locks:
    for entry in column.constraints:
        _, constraint = unwrap(entry)
        if constraint.contype == pg.CONSTR_FOREIGN:
            yield relation(constraint.pktable), Mode.SHARE_ROW_EXCLUSIVE


def _create(node: Node) -> Locks:
    for entry in node.table_elts:
        kind, element = unwrap(entry)
        if kind == "column_def":
            yield from _references(element)
        elif kind == "constraint" and element.contype == pg.CONSTR_FOREIGN:
            yield relation(element.pktable), Mode.SHARE_ROW_EXCLUSIVE


def _index(node: Node) -> Locks:
    yield relation(node.relation), Mode.SHARE_UPDATE_EXCLUSIVE if node.concurrent else Mode.SHARE


def _drop(node: Node) -> Locks:
    for entry in node.objects:
        name = object_name(entry)
        if node.remove_type == pg.OBJECT_INDEX:
            mild = Mode.SHARE_UPDATE_EXCLUSIVE if node.concurrent else Mode.ACCESS_EXCLUSIVE
            yield f"the table of index {name}", mild
        elif node.remove_type in {pg.OBJECT_TABLE, pg.OBJECT_VIEW, pg.OBJECT_MATVIEW}:
            yield name, Mode.ACCESS_EXCLUSIVE
        elif node.remove_type in {pg.OBJECT_TRIGGER, pg.OBJECT_POLICY, pg.OBJECT_RULE}:
            yield name.rpartition(".")[0], Mode.ACCESS_EXCLUSIVE


def _rename(node: Node) -> Locks:
    if node.HasField("relation"):
        name = relation(node.relation)
        if node.rename_type == pg.OBJECT_INDEX:
            yield f"index {name}", Mode.SHARE_UPDATE_EXCLUSIVE
        else:
            yield name, Mode.ACCESS_EXCLUSIVE


def _truncate(node: Node) -> Locks:
    for entry in node.relations:
        yield relation(unwrap(entry)[1]), Mode.ACCESS_EXCLUSIVE


def _write(node: Node) -> Locks:
    yield relation(node.relation), Mode.ROW_EXCLUSIVE


def _trigger(node: Node) -> Locks:
    yield relation(node.relation), Mode.SHARE_ROW_EXCLUSIVE


def _lock(node: Node) -> Locks:
    for entry in node.relations:
        yield relation(unwrap(entry)[1]), Mode(node.mode)


def _refresh(node: Node) -> Locks:
    yield relation(node.relation), Mode.EXCLUSIVE if node.concurrent else Mode.ACCESS_EXCLUSIVE


def _nothing(_: Node) -> Locks:
    yield from ()


_READERS: Final = {
    "alter_table_stmt": _alter_table,
    "create_stmt": _create,
    "index_stmt": _index,
    "drop_stmt": _drop,
    "rename_stmt": _rename,
    "truncate_stmt": _truncate,
    "insert_stmt": _write,
    "update_stmt": _write,
    "delete_stmt": _write,
    "create_trig_stmt": _trigger,
    "lock_stmt": _lock,
    "refresh_mat_view_stmt": _refresh,
    # None of these touches a table that is in use.
    "create_enum_stmt": _nothing,
    "alter_enum_stmt": _nothing,
    "create_extension_stmt": _nothing,
    "create_schema_stmt": _nothing,
    "create_seq_stmt": _nothing,
    "create_domain_stmt": _nothing,
    "composite_type_stmt": _nothing,
    "create_function_stmt": _nothing,
    "grant_stmt": _nothing,
    "variable_set_stmt": _nothing,
}
