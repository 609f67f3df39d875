"""A streaming replica of the embedded PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.cluster.processes import wait_until


class Replica:
    """Follows the server of ``primary``, until it is told to pause or is stopped."""

    def __init__(self, primary: str, directory: Path) -> None:
        self._primary = primary
        self._binaries = _binaries(primary)
        self._socket = Path(str(conninfo_to_dict(primary)["host"]))
        self._user = self._socket.owner() if os.geteuid() == 0 else None
        self._room = directory
        self._data = directory / "data"
        if self._user:
            shutil.chown(directory, self._user)

    def start(self) -> None:
        """Copy the primary, and follow it from there."""
        source = ["-h", str(self._socket), "-U", "postgres"]
        self._run("pg_basebackup", *source, "-D", self._data, "-R", "-X", "stream", "-c", "fast")
        options = f"-k {self._room} -c listen_addresses= -c hot_standby=on"
        self._run("pg_ctl", "-D", self._data, "-w", "-o", options, "-l", self._log, "start")

    def url(self, primary: str) -> str:
        """Return the URL of a database that has ``primary`` as its URL there."""
        database = conninfo_to_dict(primary)["dbname"]
        return f"postgresql://postgres@/{database}?{urlencode({'host': str(self._room)})}"

    def pause(self) -> None:
        """Show nothing newer from here on: a replica that lags."""
        self._ask("SELECT pg_wal_replay_pause()")
        wait_until(
            "The pause", lambda: self._ask("SELECT pg_get_wal_replay_pause_state()") == "paused", 20
        )

    def catch_up(self) -> None:
        """Follow again, and wait until all is here that the primary has now."""
        with psycopg.connect(self._primary) as primary:
            row = primary.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        assert row
        self._ask("SELECT pg_wal_replay_resume()")
        wait_until(
            "The replay",
            lambda: self._ask(f"SELECT pg_last_wal_replay_lsn() >= '{row[0]}'") is True,
            20,
        )

    def stop(self) -> None:
        """Stop it at once; a second time it is no longer there to be stopped."""
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    @property
    def _log(self) -> Path:
        return self._room / "log"

    def _ask(self, question: str) -> object:
        with psycopg.connect(self.url(self._primary), autocommit=True) as connection:
            row = connection.execute(question.encode()).fetchone()
        assert row
        return row[0]

    def _run(self, program: str, *arguments: str | Path) -> None:
        output = self._room / f"{program}.out"
        with output.open("ab") as out:
            subprocess.run(
                [self._binaries / program, *arguments],
                cwd=self._room,
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                check=True,
            )


def _binaries(url: str) -> Path:
    """Return where the programs are that run the server."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()
    assert row
    return Path(row[0])


@contextmanager
def replica_of(primary: str) -> Iterator[Replica]:
    """Run a replica of the embedded server with the URL ``primary``."""
    # Beside the server's own folder, not below pytest's, which is closed to PostgreSQL's user.
    with tempfile.TemporaryDirectory(prefix="tidegate-replica-") as directory:
        replica = Replica(primary, Path(directory))
        replica.start()
        try:
            yield replica
        finally:
            replica.stop()
