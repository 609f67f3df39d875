"""Requests that fail while a process is replaced under clients that never pause.

As in a cluster: the new process is up before the old one gets SIGTERM, clients keep their
connections, and the address they open new ones to changes only when nine tenths of the drain
delay have passed. Nobody retries: what is refused, reset, cut short or not 200 has failed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack

from bench.client import Connection, CutError, request
from bench.figures import Figures
from bench.processes import Server
from bench.rows import BARE, FULL, Row
from bench.setting import Setting

RESTARTS = 20
RESTARTS_OF_BARE = 3  # each fails some hundred: more would only take longer
CLIENTS = 30
DRAIN_DELAY = 2.0  # seconds
THINKING = 0.02  # seconds between an answer and the next request of a client
AFTER_FAILURE = 0.1


class Clients:
    """Thirty keep-alive clients of whatever address they know."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen: Counter[str] = Counter()
        self._over = False

    async def run(self) -> None:
        """Ask until :meth:`stop`."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._one())

    def stop(self) -> None:
        """Let every client have its answer, then end."""
        self._over = True

    async def _one(self) -> None:
        connection: Connection | None = None
        while not self._over:
            try:
                if connection is None:
                    connection = await Connection.open(self.port)
                answer = await connection.ask(request())
                outcome = "answered" if answer.status == 200 else "not 200"
                closes = answer.closes
            except CutError:
                outcome, closes = "cut", True
            except ConnectionRefusedError:
                outcome, closes = "refused", True
            except OSError:
                outcome, closes = "reset", True
            self.seen[outcome] += 1
            if closes and connection is not None:
                connection.close()
                connection = None
            await asyncio.sleep(THINKING if outcome == "answered" else AFTER_FAILURE)
        if connection is not None:
            connection.close()


def measure(setting: Setting) -> Figures:
    """Replace the bare application a few times, and ours as often as the goal says."""
    times = {BARE: min(setting.rounds or RESTARTS_OF_BARE, RESTARTS_OF_BARE)}
    times[FULL] = setting.rounds or RESTARTS
    rows = setting.named(*times)
    setting.progress.plan(sum(times[row.name] for row in rows))
    return {row.name: asyncio.run(_restart(setting, row, times[row.name])) for row in rows}


async def _restart(setting: Setting, row: Row, times: int) -> dict[str, float]:
    delay = {"TIDEGATE_DRAIN_DELAY": f"{DRAIN_DELAY:g}"}
    with ExitStack() as servers:
        old = servers.enter_context(setting.start(row, **delay))
        await asyncio.to_thread(old.until_answering)
        clients = Clients(old.port)
        codes: Counter[int] = Counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(clients.run())
            for number in range(times):
                with setting.progress.step(f"restarts: {row.name}, {number + 1} of {times}"):
                    new = servers.enter_context(setting.start(row, **delay))
                    await asyncio.to_thread(new.until_answering)
                    code = await _replace(clients, old, new)
                    codes[code] += 1
                    old = new
            clients.stop()
    failed = sum(count for kind, count in clients.seen.items() if kind != "answered")
    kinds = ("answered", "refused", "reset", "cut", "not 200")
    return {
        "restarts": times,
        "failed": failed,
        "failed each": failed / times,
        **{kind: clients.seen[kind] for kind in kinds},
        "exit 0": codes[0],
    }


async def _replace(clients: Clients, old: Server, new: Server) -> int:
    old.terminate()
    await asyncio.sleep(DRAIN_DELAY * 0.9)
    clients.port = new.port
    return await asyncio.to_thread(old.wait)
