"""A million orders as CSV: the service's export beside COPY to a file, by the same driver.

The reference is asyncpg's `copy_from_query(query, output=path, format="csv")` in a process of its
own: the same rows in the same order, but no cell neutralised, no HTTP and nobody asked who
they are. The export is asked for over a socket, by an admin, and written to a file as well. Either
has the core of what is measured; the file of the export is written on the other one. The database
may use both. Rounds alternate.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

import psycopg

from bench.database import database
from bench.figures import Figures, ratio
from bench.orders_service import OrdersService, prepare
from bench.processes import BenchError
from bench.setting import Setting
from orders.core.access import Role
from orders.core.signing import KeyRing
from orders.core.tokens import Tokens

ROUNDS = 5
ROWS = 1_000_000
_FILL = (
    "SET session_replication_role = replica",  # each row would have its user looked up
    "INSERT INTO users (email, name, password_hash) SELECT n || '@example.org', 'Ann ' || n, '' "
    "FROM generate_series(1, 1000) n",
    "WITH users AS MATERIALIZED (SELECT array_agg(id) AS ids FROM users) "
    "INSERT INTO orders (user_id, total_cents, created_at) "
    "SELECT ids[1 + n % 1000], n, now() - n * interval '1 s' "
    "FROM users, generate_series(1, {rows}) n",
)
_ADMIN = (
    "INSERT INTO users (email, name, password_hash, role) "
    "VALUES ('admin@example.org', 'Admin', '', 'admin') RETURNING id"
)
_ALL = """
SELECT orders.id, orders.user_id, users.email, users.name, orders.status, orders.total_cents,
       orders.created_at
FROM orders LEFT JOIN users ON users.id = orders.user_id ORDER BY orders.created_at, orders.id
"""
_COPY = """
import asyncio, asyncpg, sys, time

async def main(url, query, path):
    connection = await asyncpg.connect(url)
    began = time.perf_counter()
    await connection.copy_from_query(query, output=path, format="csv", header=True)
    print(time.perf_counter() - began)
    await connection.close()

asyncio.run(main(*sys.argv[1:]))
"""


def measure(setting: Setting) -> Figures:
    """Copy and export in turns.

    Raises:
        BenchError: the service does not start, or an export is not whole.
    """
    rounds = setting.rounds or ROUNDS
    copies: list[float] = []
    exports: list[float] = []
    setting.progress.plan(2 + rounds)
    with database(setting) as (url, folder):
        with setting.progress.step(f"export: a database with {ROWS:,} orders"):
            environment, token = _fill(url, folder)
        with OrdersService(environment, setting) as service:
            service.until(service.answers)
            before = service.rss()
            with _watched(service) as peak:
                with setting.progress.step("export: warm up"):
                    _copy(url, folder, setting.server_core)
                    _export(service.port, token, folder)
                for number in range(rounds):
                    with setting.progress.step(f"export: round {number + 1} of {rounds}"):
                        copies.append(_copy(url, folder, setting.server_core))
                        exports.append(_export(service.port, token, folder))
    against = ratio(exports, copies)
    return {
        "COPY to a file": {"seconds": median(copies)},
        "export": {
            "ratio": against["median"],
            "25 %": against["low"],
            "75 %": against["high"],
            "seconds": median(exports),
            "MiB added": max(peak) - before,
        },
    }


@contextmanager
def _watched(service: OrdersService) -> Iterator[list[float]]:
    """Look at the service's resident memory all the time; yield what was seen, in MiB."""
    seen, over = [service.rss()], threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            seen.append(service.rss())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _fill(url: str, folder: Path) -> tuple[dict[str, str], str]:
    """Migrate and fill the tables; return the service's settings, and an admin's token."""
    environment = prepare(url, folder)
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _FILL:
            connection.execute(statement.format(rows=ROWS).encode())
        connection.execute("VACUUM ANALYZE")
        admin = connection.execute(_ADMIN).fetchone()
    assert admin is not None
    # Not by signing in: hashing a password takes 19 MiB, which the process then keeps.
    ring = KeyRing.of_secret(environment["APP_JWT_SECRET"])
    tokens = Tokens(ring, "orders", "orders", timedelta(hours=1))
    return environment, tokens.issue(admin[0], Role.ADMIN, 0)


def _copy(url: str, folder: Path, core: int) -> float:
    command = [sys.executable, "-c", _COPY, url, _ALL, str(folder / "copied.csv")]
    done = subprocess.check_output(["taskset", "-c", str(core), *command], text=True)
    return float(done)


def _export(port: int, token: str, folder: Path) -> float:
    path = folder / "exported.csv"
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    began = time.perf_counter()
    headers = {"Authorization": f"Bearer {token}"}
    connection.request("GET", "/api/v1/orders/export.csv", headers=headers)
    answer = connection.getresponse()
    lines = 0
    with path.open("wb") as file:
        while chunk := answer.read1(1 << 18):
            file.write(chunk)
    took = time.perf_counter() - began
    connection.close()
    with path.open("rb") as file:
        lines = sum(1 for _ in file)
    if answer.status != 200 or lines != ROWS + 1:
        raise BenchError(f"an export of {ROWS} orders was answered {answer.status}, {lines} lines")
    return took
