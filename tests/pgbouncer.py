"""A real PgBouncer in front of a real PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.cluster.debian import unpacked
from tests.cluster.processes import Process, wait_until

PoolMode = Literal["session", "transaction", "statement"]
Pgbouncer = Callable[[PoolMode], str]
"""Starts one before the test's database, and returns the URL through it: a fixture."""


@contextmanager
def pgbouncer(
    url: str, directory: Path, port: int, *, pool_mode: PoolMode, pool_size: int = 5
) -> Iterator[str]:
    """Run PgBouncer on 127.0.0.1 before the database of ``url``; yield the URL through it.

    ``directory`` holds its configuration and log. Every client is the user of ``url``, without a
    password, and shares ``pool_size`` connections to the server with all others.
    """
    program = unpacked("pgbouncer")
    database = conninfo_to_dict(url)
    name = str(database["dbname"])
    configuration = directory / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\n{name} = {make_conninfo('', **database)}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = {pool_mode}\ndefault_pool_size = {pool_size}\n"
        # What drivers set at the start, and a pooler cannot keep for each of its clients.
        "ignore_startup_parameters = extra_float_digits\n"
    )
    # It refuses to be root; the embedded server's socket is open to its owner only.
    host = Path(str(database["host"]))
    user = host.owner() if host.is_absolute() else "nobody"
    become = ["-u", user] if os.geteuid() == 0 else []
    process = Process(
        "PgBouncer",
        [program.path, *become, configuration],
        directory / "pgbouncer.log",
        program.environment,
    )
    through = f"postgresql://{quote(str(database['user']))}@127.0.0.1:{port}/{quote(name)}"
    try:
        wait_until("An answer of PgBouncer", lambda: _answers(through), 20, [process])
        yield through
    finally:
        process.kill()  # at once: it would wait for its clients


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
