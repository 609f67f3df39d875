"""What every room's tests share: a real PostgreSQL, one fresh database for each test."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.debian_postgres import debian_postgres as run_debian_postgres
from tests.pgbouncer import Pgbouncer, PoolMode
from tests.pgbouncer import pgbouncer as run_pgbouncer
from tests.ports import free_ports
from tests.postgres import create_database, drop_database, embedded_postgres, hurry
from tidegate import logs
from tidegate.quiet import EXPORT

_SHARED = "/dev/shm"  # noqa: S108 - for folders that only their owner enters
_ROOM = 8 << 30  # bytes


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    """Keep a file's tests together, which share servers, and take the files as they come.

    xdist would take those with the most tests first: the slowest have few, and one core would be
    left with nothing to do at the end.
    """
    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


@pytest.fixture(autouse=True)
def every_complaint_is_heard() -> Iterator[None]:
    """A test that leaves logging to the application also leaves a filter: once a minute."""
    yield
    logging.getLogger(EXPORT).removeFilter(logs._quiet)


def memory() -> str | None:
    """A folder in memory, where there is one with room: a fresh database for a test is files."""
    shared = os.access(_SHARED, os.W_OK) and disk_usage(_SHARED).free > _ROOM
    return _SHARED if shared else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """One embedded server for each test process; its URL."""
    # Not below pytest's own folder: every pytest that starts closes it to PostgreSQL's user.
    with TemporaryDirectory(prefix="tidegate-postgres-", dir=memory()) as directory:
        with embedded_postgres(Path(directory)) as url:
            hurry(url)
            yield url


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    """An empty database of the test's own."""
    name = f"test_{uuid4().hex}"
    yield create_database(postgres, name)
    drop_database(postgres, name)


@pytest.fixture(scope="session")
def debian_postgres() -> Iterator[str]:
    """Debian's own server, one for each test process; its URL."""
    with TemporaryDirectory(prefix="tidegate-debian-", dir=memory()) as directory:
        with run_debian_postgres(Path(directory)) as url:
            yield url


@pytest.fixture
def pgbouncer(database_url: str, tmp_path: Path) -> Iterator[Pgbouncer]:
    """Start a PgBouncer before the test's database; return the URL through it."""
    with ExitStack() as stack:

        def start(pool_mode: PoolMode) -> str:
            directory = tmp_path / f"pgbouncer-{pool_mode}"
            directory.mkdir()
            return stack.enter_context(
                run_pgbouncer(database_url, directory, free_ports()[0], pool_mode=pool_mode)
            )

        yield start


@pytest.fixture(scope="session")
def orders_alembic() -> Path:
    """The reference service's alembic.ini."""
    return Path(__file__).resolve().parents[1] / "migrations-job" / "orders" / "alembic.ini"
