"""SQL text to PostgreSQL's own parse tree: statements, names and types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import postgast
from postgast import pg_query_pb2 as pg

from tidegate_migrate.lint.column_types import ColumnType

Node: TypeAlias = Any
"""A protobuf message of the parse tree; its fields are those of PostgreSQL's parsenodes.h."""

_COMMENTS: Final = {pg.SQL_COMMENT, pg.C_COMMENT}
_TEMPORARY: Final = "pg_temp"


class Parsed(NamedTuple):
    """One statement: the kind of its node (``alter_table_stmt``), the node.

    An empty ``kind`` stands for what nobody here can read; ``trouble`` says why. ``maybe`` is true
    in a DO block, which may pass a statement over.
    """

    kind: str
    node: Node = None
    trouble: str = ""
    maybe: bool = False


def split(sql: str) -> list[str]:
    """Return the statements of a text, without comments between them and without semicolons."""
    try:
        stretches = [(s.stmt_location, s.stmt_len) for s in postgast.parse(sql).stmts]
    except (postgast.PgQueryError, UnicodeError, ValueError):
        return _split_by_eye(sql)
    raw = sql.encode()
    parts = (raw[start : start + length] if length else raw[start:] for start, length in stretches)
    return [_without_comments_after(part.decode().strip()) for part in parts]


def _split_by_eye(sql: str) -> list[str]:
    """Split what does not parse: the parts that do can still be judged."""
    try:
        parts = postgast.split(sql, method="scanner")
    except (postgast.PgQueryError, UnicodeError, ValueError):
        parts = [sql]
    whole = (_without_comments_after(part.strip().rstrip(";")) for part in parts)
    return [part for part in whole if part.strip(" \n\t;")]


def _without_comments_after(sql: str) -> str:
    """Leave out the comments that end a statement: one would swallow the semicolon after it."""
    try:
        tokens = postgast.scan(sql).tokens
    except (postgast.PgQueryError, UnicodeError, ValueError):
        return sql
    end = max((token.end for token in tokens if token.token not in _COMMENTS), default=0)
    return sql.encode()[:end].decode()


def parse(sql: str) -> Iterator[Parsed]:
    """Parse a text; the statements that a DO block runs stand in the block's place."""
    try:
        statements = postgast.parse(sql).stmts
    except (postgast.PgQueryError, UnicodeError, ValueError) as error:
        yield Parsed("", trouble=f"PostgreSQL's parser says: {error}")
        return
    for statement in statements:
        kind, node = unwrap(statement.stmt)
        if kind == "do_stmt":
            yield from (parsed._replace(maybe=True) for parsed in _parse_block(sql))
        else:
            yield Parsed(kind, node)


def parse_all(texts: Iterable[str]) -> Iterator[tuple[int, Parsed]]:
    """Parse statements that run one after another; each comes with its text's index.

    A temporary table hides others of its name from those who name no schema: it is given its own,
    ``pg_temp``, wherever it is meant.
    """
    temporary: set[str] = set()
    for index, sql in enumerate(texts):
        for parsed in parse(sql):
            if parsed.kind and (temporary or "temp" in sql.lower()):
                _name_temporary(parsed, temporary)
            yield index, parsed


def _name_temporary(parsed: Parsed, temporary: set[str]) -> None:
    for _, node in postgast.walk(parsed.node):
        if type(node).DESCRIPTOR.name == "RangeVar":
            if node.relpersistence == "t":
                temporary.add(node.relname)
            if node.relname in temporary and not node.schemaname:
                node.schemaname = _TEMPORARY
    if parsed.kind == "drop_stmt":
        for names in (unwrap(entry)[1].items for entry in parsed.node.objects if entry.list.items):
            if len(names) == 1 and (name := names[0].string.sval) in temporary:
                names[0].string.sval = f"{_TEMPORARY}.{name}"
                temporary.discard(name)


def is_temporary(name: str) -> bool:
    """Tell whether a name is one of this session only."""
    return name.startswith(f"{_TEMPORARY}.")


def unwrap(node: Node) -> tuple[str, Node]:
    """Return the kind of a node and what it holds; an empty kind for an empty node."""
    kind = node.WhichOneof("node")
    return (kind, getattr(node, kind)) if kind else ("", None)


def _parse_block(sql: str) -> Iterator[Parsed]:
    try:
        functions = postgast.parse_plpgsql(sql)
    except (postgast.PgQueryError, ValueError) as error:
        yield Parsed("", trouble=f"the DO block does not parse as PL/pgSQL: {error}")
        return
    for key, held in _walk(functions):
        if key == "PLpgSQL_stmt_execsql":
            yield from parse(held["sqlstmt"]["PLpgSQL_expr"]["query"])
        elif key == "PLpgSQL_stmt_call":
            yield from parse(held["expr"]["PLpgSQL_expr"]["query"])
        elif key in {"PLpgSQL_stmt_commit", "PLpgSQL_stmt_rollback"}:
            yield from parse(key.removeprefix("PLpgSQL_stmt_"))
        elif key == "PLpgSQL_stmt_dynexecute":
            yield from _parse_dynamic(held["query"]["PLpgSQL_expr"]["query"])


def _walk(tree: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - decoded JSON
    """Yield each key and what it holds, in the order of the text."""
    if isinstance(tree, dict):
        for key, held in tree.items():
            yield key, held
            yield from _walk(held)
    elif isinstance(tree, list):
        for entry in tree:
            yield from _walk(entry)


def _parse_dynamic(expression: str) -> Iterator[Parsed]:
    """Parse what EXECUTE runs: readable where it is one plain string."""
    for parsed in parse(f"SELECT {expression}"):
        if parsed.kind == "select_stmt":
            kind, value = unwrap(parsed.node.target_list[0].res_target.val)
            if kind == "a_const" and value.HasField("sval"):
                yield from parse(value.sval.sval)
                continue
        yield Parsed("", trouble=f"EXECUTE builds its statement when it runs: {expression}")


def dotted(strings: Iterable[Node]) -> str:
    """Return a name that is given in parts."""
    return _plain([part.string.sval for part in strings])


def relation(range_var: Node) -> str:
    """Return the name of a table, view, index or sequence."""
    return _plain([range_var.schemaname, range_var.relname])


def _plain(parts: list[str]) -> str:
    """Join the parts; ``public`` is where most names are looked up anyway."""
    return ".".join(part for part in parts if part and part not in {"public", "pg_catalog"})


def object_name(node: Node) -> str:
    """Return the name of what a DROP or an ALTER names, whatever kind of object it is."""
    kind, held = unwrap(node)
    match kind:
        case "list":
            return dotted(held.items)
        case "string":
            return str(held.sval)
        case "type_name":
            return dotted(held.names)
        case "object_with_args":
            return dotted(held.objname)
        case "range_var":
            return relation(held)
    return ""


def column_type(type_name: Node) -> ColumnType:
    """Return a type in plain words, as :mod:`column_types` compares them."""
    modifiers = [unwrap(modifier) for modifier in type_name.typmods]
    return ColumnType(
        dotted(type_name.names),
        tuple(value.ival.ival for kind, value in modifiers if kind == "a_const"),
        array=bool(type_name.array_bounds),
    )


def read_type(text: str) -> ColumnType | None:
    """Read a type as SQLAlchemy writes it; None where that is no type."""
    try:
        (statement,) = postgast.parse(f"SELECT NULL::{text}").stmts
        _, select = unwrap(statement.stmt)
        return column_type(select.target_list[0].res_target.val.type_cast.type_name)
    except (postgast.PgQueryError, ValueError):
        return None
