"""What is left of the requests that arrive after SIGTERM: spans, log lines, and the last scrape.

A hundred requests with a ``traceparent`` that says *sampled*, a request id and a path of their
own, sent one after another from the moment of SIGTERM on.
"""

from __future__ import annotations

import asyncio
import re
from http.client import HTTPConnection, HTTPException

from bench.client import Connection, load, request
from bench.figures import Figures
from bench.processes import Server
from bench.rows import BARE, FULL, Row
from bench.setting import Setting
from bench.sink import MARK

REQUESTS = 100
DRAIN_DELAY = 3.0  # seconds
PACE = 0.01  # seconds between two of the requests
FIRST = 7_000_000  # order ids that nothing else in the output looks like
_COUNTED = re.compile(
    r'^http_requests_total\{handler="/api/v1/orders/\{order_id\}".*\} ([0-9.e+]+)$', re.M
)


def measure(setting: Setting) -> Figures:
    """End one process of each row."""
    rows = setting.named(BARE, "naive", FULL, "tidegate-contrib-5")
    setting.progress.plan(len(rows))
    figures: Figures = {}
    for row in rows:
        with setting.progress.step(f"{REQUESTS} requests after SIGTERM: {row.name}"):
            figures[row.name] = _measure(setting, row)
    return figures


def _measure(setting: Setting, row: Row) -> dict[str, float]:
    with setting.start(row, TIDEGATE_DRAIN_DELAY=f"{DRAIN_DELAY:g}") as server:
        server.until_answering()
        asyncio.run(load(server.port, 200))
        before = _scraped(server)
        server.terminate()
        answered = asyncio.run(_ask(server.port))
        counted = max(0.0, _scraped(server) - before)
        server.wait()
        output = b"\n".join(server.output)
    return {
        "answered": answered,
        "spans": setting.sink.of(row.name, "marked"),
        "logged": sum(str(FIRST + number).encode() in output for number in range(REQUESTS)),
        "counted": counted,
    }


async def _ask(port: int) -> int:
    answered = 0
    for number in range(REQUESTS):
        try:
            connection = await Connection.open(port)
            answer = await connection.ask(
                request(
                    FIRST + number,
                    traceparent=f"00-{MARK.hex()}{number + 1:016x}-00f067aa0ba902b7-01",
                    X_Request_ID=f"bench-{FIRST + number}",
                )
            )
            answered += answer.status == 200
            connection.close()
        except OSError:
            pass
        await asyncio.sleep(PACE)
    return answered


def _scraped(server: Server) -> float:
    """The requests that ``/metrics`` tells of; none where it does not answer."""
    port = server.admin_port if server.row.ours else server.port
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/metrics")
        return counted(connection.getresponse().read().decode())
    except (OSError, HTTPException):
        return 0.0
    finally:
        connection.close()


def counted(exposition: str) -> float:
    """How many requests to the measured route an exposition tells of."""
    return sum(float(value) for value in _COUNTED.findall(exposition))
