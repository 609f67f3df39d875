"""The SQL of given revisions, rendered offline through the project's own, unedited env.py.

Nothing is read from a database and nothing is printed. Each revision is rendered by itself, so
every statement is known to be its own; what a revision does only with a database at hand is told
apart by :attr:`Rendered.missing`.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import module_from_spec
from pathlib import Path
from threading import get_ident
from traceback import extract_tb
from types import FrameType, ModuleType
from typing import Any, Final, NoReturn

from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, event, text
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.exc import CompileError, NoInspectionAvailable, SQLAlchemyError

from tidegate_migrate.lint.parsing import split
from tidegate_migrate.project import Project
from tidegate_migrate.stdout import kept_clean

__all__ = ["Rendered", "Statement", "render"]

_OURS: Final = {"connection", "dialect", "dialect_name", "output_buffer", "output_encoding", "url"}
"""What env.py says about where the SQL goes; rendered, it goes to PostgreSQL on paper."""
_DRIVERS: Final = {
    "psycopg.generators": "connect",
    "psycopg2": "_connect",
    "asyncpg.connect_utils": "_connect",
}
"""The module of each driver that connects, and its function that does, whoever calls it."""
_PLACEHOLDER: Final = re.compile(r"%(\(\w+\))?s")


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement of a revision, without its semicolon.

    ``line`` counts from 1 in :attr:`Rendered.sql`, ``file_line`` in the revision's file (None
    where the file does not show it). ``in_transaction`` is false inside an autocommit_block.
    ``old_type`` is the column type that ``op.alter_column(existing_type=...)`` declares.
    """

    sql: str
    line: int = 1
    file_line: int | None = None
    in_transaction: bool = True
    old_type: str = ""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A revision's statements; ``missing`` says why there may be more that are not seen."""

    revision: str
    file: str
    statements: tuple[Statement, ...]
    missing: str = ""

    @property
    def sql(self) -> str:
        """All statements as one text; the lines that :class:`Statement` counts."""
        return "".join(f"{statement.sql};\n\n" for statement in self.statements)


def render(project: Project, revisions: Collection[str]) -> tuple[Rendered, ...]:
    """Render the revisions, from the base up."""
    ordered = [name for name in project.manifest.revisions if name in revisions]
    if not ordered:
        return ()
    done: dict[str, Rendered] = {}

    def run(context: MigrationContext, arguments: Mapping[str, Any], trouble: str) -> None:
        with _no_driver():
            for name in ordered:
                done[name] = _render_one(project, environment, context, name, arguments, trouble)

    environment = EnvironmentContext(project.config, project.scripts, as_sql=True)
    with environment, _quiet(), _no_database():
        _go_through_env(project, environment, run)
    return tuple(done[name] for name in ordered)


def _go_through_env(
    project: Project,
    environment: EnvironmentContext,
    run: Callable[[MigrationContext, Mapping[str, Any], str], None],
) -> None:
    """Let env.py come to its ``run_migrations()``, or do without what it would have set up."""
    began = False
    theirs = environment.configure

    def configure(trouble: str, options: Mapping[str, Any]) -> None:
        kept = {name: value for name, value in options.items() if name not in _OURS}
        # A value that has no literal is shown as $1, which PostgreSQL's parser reads.
        kept["dialect_opts"] = kept.get("dialect_opts", {}) | {"paramstyle": "numeric_dollar"}
        kept |= {"literal_binds": True, "output_buffer": io.StringIO()}
        theirs(dialect_name="postgresql", **kept)
        context = environment.get_context()

        def run_migrations(**arguments: Any) -> None:  # noqa: ANN401 - env.py's own
            nonlocal began
            began = True
            run(context, arguments, trouble)

        context.run_migrations = run_migrations  # type: ignore[method-assign]

    environment.configure = lambda *_, **options: configure("", options)  # type: ignore[method-assign]
    trouble = "it ends without context.run_migrations()"
    try:
        project.scripts.run_env()
    # env.py is anybody's code; one without an offline mode connects, and is stopped here.
    except (Exception, SystemExit, _ConnectsError) as error:
        # By its name only: the words of an env.py may quote the URL and its password.
        trouble = f"it stops with {type(error).__name__.lstrip('_')}"
    if not began:
        configure(f" (rendered without env.py: offline, {trouble})", {})
        environment.run_migrations()


def _render_one(
    project: Project,
    environment: EnvironmentContext,
    context: MigrationContext,
    name: str,
    arguments: Mapping[str, Any],
    trouble: str,
) -> Rendered:
    script = project.scripts.get_revision(name)
    recorder = _Recorder(script.path)
    recorder.observe(environment, context)
    try:
        # A module of its own: the run is to find the other one as if nobody had been there.
        _anew(script.module).upgrade(**arguments)
    # A revision is anybody's code; without a database it may raise whatever it likes.
    except (Exception, SystemExit, _ConnectsError) as error:
        recorder.missing = f"{_where(error, script.path)}{_words(error)}{trouble}"
    return Rendered(name, script.path, tuple(recorder.statements), recorder.missing)


def _anew(module: ModuleType) -> Any:  # noqa: ANN401 - anybody's revision
    spec = module.__spec__
    if spec is None or spec.loader is None:
        raise ImportError(f"nobody knows how {module.__name__} was loaded")
    fresh = module_from_spec(spec)
    spec.loader.exec_module(fresh)
    return fresh


class _Recorder:
    """Takes what Alembic would print for one revision, and where in its file it comes from."""

    def __init__(self, path: str) -> None:
        self.statements: list[Statement] = []
        self.missing = ""
        self._path = path
        self._in_transaction = True
        self._old_type = ""
        self._next_line = 1

    def observe(self, environment: EnvironmentContext, context: MigrationContext) -> None:
        """Put this recorder where Alembic writes; a later one takes its place."""
        impl = context.impl
        execute = type(impl)._exec

        def note_and_execute(construct: Any, *args: Any, **options: Any) -> None:  # noqa: ANN401
            self._old_type = _existing_type(construct, context)
            try:
                execute(impl, construct, *args, **options)
            except CompileError:  # a value without a literal
                without_literals(construct)

        def without_literals(construct: Any) -> None:  # noqa: ANN401
            impl.literal_binds = False
            try:
                execute(impl, construct)
            finally:
                impl.literal_binds = True

        def on_bind(construct: Any, values: object) -> _NoRows:  # noqa: ANN401
            # Values that come apart from their statement are not in it as literals.
            if values:
                without_literals(construct)
            else:
                impl._exec(construct)
            return _NoRows()

        # Methods are replaced on the instances: that leaves Alembic itself as it is.
        impl._exec = note_and_execute  # type: ignore[method-assign]
        impl.static_output = self._write  # type: ignore[method-assign]
        impl.emit_begin = lambda: self._enter(True)  # type: ignore[method-assign]
        impl.emit_commit = lambda: self._enter(False)  # type: ignore[method-assign]
        bind: Any = _Bind(context.dialect, on_bind)
        context.connection = impl.connection = bind
        environment.is_offline_mode = self._asked_for_the_mode  # type: ignore[method-assign]
        context.__class__ = _Observed
        vars(context)["ask"] = self._asked_for_the_mode

    def _write(self, text: str) -> None:
        call = _line_in(self._path)
        parts = split(text)
        for part in parts:
            line = _search(self._path, call, part) if call and len(parts) > 1 else call
            self.statements.append(
                Statement(part, self._next_line, line, self._in_transaction, self._old_type)
            )
            self._next_line += part.count("\n") + 2

    def _enter(self, transaction: bool) -> None:
        self._in_transaction = transaction

    def _asked_for_the_mode(self) -> bool:
        self.missing = f"line {_line_in(self._path)}: it does something else offline"
        return True


class _Observed(MigrationContext):
    """A context that asks when anybody but Alembic and Tidegate wants to know its mode."""

    ask: Callable[[], bool]

    @property
    def as_sql(self) -> bool:  # type: ignore[override]
        asker = sys._getframe(1).f_globals.get("__name__", "")
        return asker.startswith(("alembic.", "tidegate_migrate.")) or self.ask()


class _Bind(MockConnection):
    """What ``op.get_bind()`` returns: takes statements, and has nothing else to offer."""

    def exec_driver_sql(self, sql: str, *_: object) -> Any:  # noqa: ANN401 - as Connection's
        # In the driver's own form: what PostgreSQL's parser reads is made of it.
        plain = _PLACEHOLDER.sub("$1", sql).replace("%%", "%")
        return self.execute(text(plain.replace(":", r"\:")))

    def close(self) -> None:
        """Let a revision close it, as it could a connection."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"it asks the connection for .{name}")


class _NoRows:
    """What a statement returns where there is no database: nothing that can be looked at."""

    def _refuse(self, *_: object) -> NoReturn:
        raise LookupError("it reads what a statement returned")

    __bool__ = __getitem__ = __iter__ = __len__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        self._refuse()


@contextmanager
def _quiet() -> Iterator[None]:
    """Let nobody print or log: the run itself will, and this is not it."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with kept_clean(), redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)


class _ConnectsError(BaseException):
    """Somebody opens a connection. No Exception, so that no retry loop catches it."""


@contextmanager
def _no_database() -> Iterator[None]:
    """Stop every SQLAlchemy engine, async ones too, before it connects."""

    def refuse(*_: object) -> NoReturn:
        raise _ConnectsError("it connects to the database")

    event.listen(Engine, "do_connect", refuse)
    try:
        yield
    finally:
        event.remove(Engine, "do_connect", refuse)


@contextmanager
def _no_driver() -> Iterator[None]:
    """Stop those who connect without SQLAlchemy; other threads, the runner's own, may."""
    rendering = get_ident()

    def unless_rendering(theirs: Callable[..., Any]) -> Callable[..., Any]:
        def connect(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - the driver's own
            if get_ident() == rendering:
                raise _ConnectsError("it connects to the database")
            return theirs(*args, **options)

        return connect

    before: list[tuple[ModuleType, str, Callable[..., Any]]] = []
    try:
        for name, how in _DRIVERS.items():
            with suppress(ImportError, AttributeError):  # another driver, or another form of it
                driver = import_module(name)
                before.append((driver, how, getattr(driver, how)))
                setattr(driver, how, unless_rendering(getattr(driver, how)))
        yield
    finally:
        for driver, how, theirs in before:
            setattr(driver, how, theirs)


def _existing_type(construct: object, context: MigrationContext) -> str:
    declared = getattr(construct, "existing_type", None)
    try:
        return declared.compile(dialect=context.dialect) if declared is not None else ""
    except SQLAlchemyError:  # a type without a name in SQL
        return ""


def _line_in(path: str) -> int | None:
    """Return the line of the file that is being executed, where it is on the stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_code.co_filename != path:
        frame = frame.f_back
    return frame.f_lineno if frame else None


def _search(path: str, call: int, sql: str) -> int:
    """Return the line of one statement among several that one call holds, else the call's."""
    first = sql.partition("\n")[0]
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    return next((n for n, line in enumerate(lines[call - 1 :], call) if first in line), call)


def _where(error: BaseException, path: str) -> str:
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == path]
    return f"line {lines[-1]}: " if lines else ""


def _words(error: BaseException) -> str:
    words = " ".join(str(error).split())
    if isinstance(error, NoInspectionAvailable):
        return "it inspects the database"
    return words if words.startswith("it ") else f"{type(error).__name__}: {words}"
