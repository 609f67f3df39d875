"""What a person sees, and what a machine gets instead."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.migrate.conftest import Tidegate, answer, clean_environment, finish
from tests.migrate.project import AlembicProject
from tidegate.schema import AppliedRevision, Failure, Phase
from tidegate_migrate.arguments import parser
from tidegate_migrate.failure import EXIT_CODES, NOTHING_TO_DO
from tidegate_migrate.live import line
from tidegate_migrate.progress import Progress
from tidegate_migrate.screen import Style, number, table

DOCS = Path(__file__).parents[2] / "docs" / "migrate.md"


class Terminal:
    """A command on a terminal of its own; what it shows is read as it comes."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        self.shown = ""
        self._seen = threading.Condition()
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tidegate.cli", "migrate", *map(str, arguments)],
            env=clean_environment() | {"TERM": "xterm", "COLUMNS": "200"} | environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._master, 4096).decode(errors="replace")
            except OSError:  # Linux's word for the end
                part = ""
            with self._seen:
                self.shown += part
                self._seen.notify()
            if not part:
                os.close(self._master)
                return

    def wait_for(self, pattern: str) -> None:
        """Wait until something is shown."""
        with self._seen:
            assert self._seen.wait_for(lambda: re.search(pattern, self.shown), 60), self.shown


@pytest.fixture
def terminal(database_url: str) -> Iterator[Callable[..., Terminal]]:
    """Start commands on terminals, against the test's database; none outlives its test."""
    with ExitStack() as stack:

        def start(*arguments: object, **environment: str) -> Terminal:
            started = Terminal(*arguments, DATABASE_URL=database_url, **environment)
            stack.enter_context(started.process)
            stack.callback(started.process.kill)
            return started

        yield start


def test_a_terminal_shows_who_is_waited_for_what_is_locked_and_for_how_long(
    project: AlembicProject,
    tidegate: Tidegate,
    terminal: Callable[..., Terminal],
    database_url: str,
) -> None:
    project.revision("a", sql="CREATE TABLE t (x int)")
    assert finish(tidegate("up", "--config", project.config, "--json"))[0] == 0
    project.revision("b", "a", sql="ALTER TABLE t ADD y int; SELECT pg_sleep(1)")
    with psycopg.connect(database_url, application_name="a long report") as reader:
        reader.execute("SELECT * FROM t")
        up = terminal("up", "--config", project.config)
        up.wait_for(r"b \(1 of 1\) \d\.\d s; waits [1-9]\.\d s for a lock held by a long report")
        reader.rollback()
        up.wait_for(r"b \(1 of 1\) \d\.\d s; holds t \(ACCESS EXCLUSIVE\) for 0\.[1-9] s")
        up.wait_for(
            r"\x1b\[32mapplied\x1b\[0m b \(expand\) in .*, locked t \(ACCESS EXCLUSIVE\) for"
        )
        up.wait_for(r"verdict \x1b\[32mcurrent\x1b\[0m, database at b")
    assert up.process.wait(60) == 0


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_without_colours_gets_none(
    environment: dict[str, str], project: AlembicProject, terminal: Callable[..., Terminal]
) -> None:
    plan = terminal("plan", "--config", project.config, **environment)
    plan.wait_for("rollback now")
    assert plan.process.wait(60) == 0
    assert "\x1b" not in plan.shown


def test_the_line_that_changes_says_what_a_run_is_at() -> None:
    progress = Progress(frozenset({"a", "b"}))
    assert line(progress, 9.0, since=0.0, waiting_since=0.0) == ""
    progress.applied["a"] = AppliedRevision("a", Phase.EXPAND, 0.1)
    progress.running, progress.waiting = "b", "psql (backend 1, idle, for 3 s)"
    progress.locked = {"t": ("SHARE", 8.5)}
    assert line(progress, 9.0, since=7.0, waiting_since=8.0) == (
        "b (2 of 2) 2.0 s; waits 1.0 s for a lock held by psql (backend 1, idle, for 3 s); "
        "holds t (SHARE) for 0.5 s"
    )


def test_a_table_is_as_wide_as_its_words() -> None:
    style = Style(io.StringIO())
    assert table(style, ("a", "long"), [("wide", "b"), ("c", "")]) == "a     long\nwide  b\nc"
    assert table(style, ("a",), [("\x1b]0;t\x07\n\x9b2Jé",)]) == "a\n?]0;t???2Jé"
    assert (number(1, "row"), number(2, "row")) == ("1 row", "2 rows")


@pytest.mark.parametrize("command", ["up", "plan", "lint", "wait", "status", "history"])
def test_every_command_fails_in_the_one_shape_for_machines_and_in_words_for_people(
    command: str, tmp_path: Path, tidegate: Tidegate
) -> None:
    nowhere = ("--config", tmp_path / "alembic.ini")
    code, told = answer(tidegate(command, *nowhere, "--json"))
    assert (code, told["outcome"], told["failure"]) == (2, "failed", "settings")
    assert "there is no Alembic configuration" in told["message"]
    run = tidegate(command, *nowhere)
    output, errors = run.communicate(timeout=120)
    assert (run.returncode, output) == (2, "")
    assert "there is no Alembic configuration" in errors
    assert "what to do: name it with --config" in errors


@pytest.mark.parametrize(
    ("command", "expected"), [("up --json", 1), ("up", 1), ("plan", 0), ("lint --all", 6)]
)
def test_an_exit_code_stays_the_commands_own_where_nobody_reads_what_it_prints(
    command: str, expected: int, project: AlembicProject, database_url: str
) -> None:
    project.revision("a", sql="ALTER TABLE t DROP x")
    reading, writing = os.pipe()
    os.close(reading)
    code, errors = run_into(writing, command, project, database_url)
    assert code == expected, errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(("command", "expected"), [("up", 0), ("manifest", 2)])
def test_a_full_disk_under_stdout_is_named_and_fails_only_what_was_asked_for_its_output(
    command: str, expected: int, project: AlembicProject, database_url: str
) -> None:
    project.revision("a")
    full = os.open("/dev/full", os.O_WRONLY)
    code, errors = run_into(full, command, project, database_url)
    assert code == expected, errors
    assert "No space left on device" in errors
    assert "Traceback" not in errors


def run_into(
    stdout: int, command: str, project: AlembicProject, database_url: str
) -> tuple[int, str]:
    """Run a command whose stdout is this file descriptor; return its exit code and stderr."""
    words = [*command.split(), "--config", str(project.config)]
    run = subprocess.run(
        [sys.executable, "-m", "tidegate.cli", "migrate", *words],
        env=clean_environment() | {"DATABASE_URL": database_url},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    os.close(stdout)
    return run.returncode, run.stderr


def test_every_reason_has_an_exit_code_of_its_own_in_help_and_in_the_docs() -> None:
    codes = [0, NOTHING_TO_DO, *EXIT_CODES.values()]
    assert len(set(codes)) == len(Failure) + 2
    documented = re.findall(r"^\| (\d+) \| (?:`([a-z-]+)`|.) \|", DOCS.read_text(), re.MULTILINE)
    assert {int(code): reason for code, reason in documented} == {
        0: "",
        NOTHING_TO_DO: "",
        **{code: failure.value for failure, code in EXIT_CODES.items()},
    }
    told = parser({"up": lambda _: 0}).format_help().partition("exit codes:")[2]
    assert {int(code) for code in re.findall(r"(?<!\S)(\d+) ", told)} == set(codes)
