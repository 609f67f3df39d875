"""Requests per second of the Orders service beside the same work done plainly.

One process and one core for each server; wrk, the sink and a real PostgreSQL have the other. Slices
and their order are those of :mod:`bench.sockets`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import psycopg

from bench.client import HEADERS
from bench.database import database
from bench.figures import Figures, by_median, ratio
from bench.orders_service import OrdersService, prepare, seed
from bench.processes import BenchError, Child, answers, free_ports
from bench.setting import Setting
from bench.sockets import ROUNDS_OF_A_PROCESS, Slice, wrk
from tests.cluster.shopping import sign_in

ROUNDS = 12
_ORDERS = "/api/v1/orders"
_PLAIN = {"read": "bare", "place": "plain"}
_CATALOGUE = """
INSERT INTO products (sku, name, price_cents, stock)
SELECT 'sku-' || n, 'Product ' || n, 450, 1000000 FROM generate_series(1, 1000) n
"""
_PLACED = """
WITH placed AS (
    INSERT INTO orders (user_id, status, total_cents)
    SELECT id, 'pending', 1350 FROM users, generate_series(1, 1000) RETURNING id
), lines AS (
    INSERT INTO order_lines (order_id, product_id, quantity, unit_price_cents)
    SELECT placed.id, products.id, 1, 450 FROM placed, (SELECT id FROM products LIMIT 3) products
)
SELECT id::text FROM placed
"""


@dataclass(frozen=True)
class Shop:
    """A database with a catalogue, and who orders."""

    environment: Mapping[str, str]
    password: str
    ids: Mapping[str, Path]
    """Of orders of three lines to read, and of products to place orders of: one a line."""


class _Plain(Child):
    """One of :mod:`bench.plain_orders`, by uvicorn."""

    def __init__(self, name: str, shop: Shop, setting: Setting) -> None:
        (self.port,) = free_ports(1)
        command = [sys.executable, "-m", "uvicorn", "--factory", f"bench.plain_orders:{name}"]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--no-access-log"]
        super().__init__(name, command, shop.environment, setting.server_core)

    def answers(self) -> bool:
        """Whether it takes requests."""
        return answers(self.port, with_any=True)


_Service = OrdersService | _Plain


def measure(setting: Setting) -> Figures:
    """Measure reading an order of three lines, each time another one, and placing one."""
    rounds = setting.rounds or ROUNDS
    slices: dict[tuple[str, str], list[Slice]] = {}
    setting.progress.plan(1 + rounds + 2 * ceil(rounds / ROUNDS_OF_A_PROCESS))
    with database(setting, away=True) as (url, folder):
        with setting.progress.step("ordering: a database with a catalogue"):
            shop = _open_shop(url, folder)
        for first in range(0, rounds, ROUNDS_OF_A_PROCESS):
            with _services(setting, shop) as (services, token):
                turns = [(work, name) for work in _PLAIN for name in (_PLAIN[work], "orders")]
                with setting.progress.step("ordering: warm up"):
                    for work, name in turns:
                        _slice(services[name], work, shop, token)
                for number in range(first, min(first + ROUNDS_OF_A_PROCESS, rounds)):
                    with setting.progress.step(f"ordering: round {number + 1} of {rounds}"):
                        for work, name in setting.shuffled(turns):
                            seen = _slice(services[name], work, shop, token)
                            slices.setdefault((work, name), []).append(seen)
    return {work: _figures(slices[work, "orders"], slices[work, _PLAIN[work]]) for work in _PLAIN}


def _figures(mine: list[Slice], plain: list[Slice]) -> dict[str, float]:
    against = ratio([one.per_second for one in mine], [one.per_second for one in plain])
    middle = by_median(
        {
            "per second": [one.per_second for one in mine],
            "plain per second": [one.per_second for one in plain],
            "p99 ms": [one.p99_ms for one in mine],
            "plain p99 ms": [one.p99_ms for one in plain],
        }
    )
    return {"ratio": against["median"], "25 %": against["low"], "75 %": against["high"], **middle}


def _open_shop(url: str, folder: Path) -> Shop:
    environment = prepare(url, folder)
    password = seed(environment)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_CATALOGUE)
        products = connection.execute("SELECT id::text FROM products ORDER BY id").fetchall()
        orders = connection.execute(_PLACED).fetchall()
        connection.execute("VACUUM ANALYZE")
    files = {"read": folder / "orders", "place": folder / "products"}
    for work, found in (("read", orders), ("place", products)):
        files[work].write_text("".join(f"{each}\n" for (each,) in found))
    return Shop(environment, password, files)


@contextmanager
def _services(setting: Setting, shop: Shop) -> Iterator[tuple[dict[str, _Service], str]]:
    """Start all of them, sign in, and hold them still."""
    with ExitStack() as stack:
        with setting.progress.step("ordering: start the services"):
            services: dict[str, _Service] = {
                name: stack.enter_context(_Plain(name, shop, setting)) for name in _PLAIN.values()
            }
            services["orders"] = stack.enter_context(OrdersService(shop.environment, setting))
            for service in services.values():
                service.until(service.answers)
            url = f"http://127.0.0.1:{services['orders'].port}"
            token = sign_in(url, shop.password)
            for service in services.values():
                service.pause()
        yield services, token


def _slice(service: _Service, work: str, shop: Shop, token: str) -> Slice:
    headers = HEADERS | {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
    }
    service.resume()
    try:
        seen = wrk(service.port, _ORDERS, headers, (work, str(shop.ids[work])))
    finally:
        service.pause()
    if seen.failed:
        last = b"\n".join(list(service.output)[-3:]).decode(errors="replace")
        raise BenchError(
            f"{service.name} failed {seen.failed} of {seen.requests} requests to {work}:\n{last}"
        )
    return seen
