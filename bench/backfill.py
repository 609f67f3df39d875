"""p99 of a service's queries beside a backfill of a million rows, and without one.

Eight connections send transactions at a fixed rate, as a service under steady load does; what
waits for its turn is counted from when it was due. Slices with a backfill take turns with slices
without: the backfill is ended and goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import psycopg

from bench.database import RATE, Load, database, make_users, p99
from bench.figures import Figures
from bench.migrations import write_project
from bench.processes import BenchError
from bench.setting import Setting

ROWS = 1_000_000
SLICE = 5.0  # seconds
SLICES = 30  # of each kind, at most
WARM_UP = 2.0

_DECLARATION = (
    'table = "users"\nset = "email_lower = lower(email)"\nwhere = "email_lower IS NULL"\n'
)


def measure(setting: Setting) -> Figures:
    """Backfill the whole table once; ``rounds`` is the most slices of each kind.

    Raises:
        BenchError: the backfill failed, or did not end in the slices there are.
    """
    slices = setting.rounds or SLICES
    setting.progress.plan(1)
    with setting.progress.step(f"backfill of {ROWS:,} rows"), database(setting) as (url, folder):
        return asyncio.run(_measure(url, folder, slices))


async def _measure(url: str, directory: Path, slices: int) -> Figures:
    _prepare(url, directory)
    steady: list[float] = []
    beside: list[float] = []
    ratios: list[float] = []
    working = 0.0
    async with Load(url, ROWS) as load:
        await load.during(asyncio.sleep(WARM_UP))
        for _ in range(slices):
            without = await load.during(asyncio.sleep(SLICE))
            backfill = await asyncio.to_thread(_Backfill, url, directory)
            began = time.monotonic()
            ended = asyncio.create_task(asyncio.to_thread(backfill.read_on))
            within = await load.during(asyncio.wait({ended}, timeout=SLICE))
            working += time.monotonic() - began
            done = ended.done()
            backfill.stop()
            await ended
            if len(within) > RATE:  # a second or more: else there is no p99
                steady += without
                beside += within
                ratios.append(p99(within) / p99(without))
            if done:
                break
    _check(url)
    return {
        "steady": {"p50 ms": median(steady) * 1e3, "p99 ms": p99(steady) * 1e3},
        "backfill": {
            "ratio": p99(beside) / p99(steady),
            "by slice": median(ratios),
            "p50 ms": median(beside) * 1e3,
            "p99 ms": p99(beside) * 1e3,
            "rows/s": ROWS / working,
            "slices": len(ratios),
        },
    }


class _Backfill:
    """`tidegate migrate backfill` from its first batch on: its own start is not measured."""

    def __init__(self, url: str, directory: Path) -> None:
        command = [sys.executable, "-m", "tidegate.cli", "migrate", "backfill", "email", "--json"]
        environment = {"DATABASE_URL": url, "ALEMBIC_CONFIG": str(directory / "alembic.ini")}
        self._process = subprocess.Popen(
            command, env=os.environ | environment, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        for line in self._process.stdout:
            if json.loads(line)["event"] == "progress":
                break

    def read_on(self) -> None:
        """Wait for its end.

        Raises:
            BenchError: it neither finished nor was stopped.
        """
        assert self._process.stdout
        with self._process, self._process.stdout as lines:
            said = lines.readlines()
        last = json.loads(said[-1]) if said else {}
        if last.get("event") != "finished" and last.get("failure") != "terminated":
            raise BenchError(f"the backfill failed: {last.get('message', 'without a word')}")

    def stop(self) -> None:
        """Let it end where it is; it goes on from there the next time."""
        self._process.terminate()


def _prepare(url: str, folder: Path) -> None:
    """Fill the table, and declare its backfill."""
    make_users(url, ROWS)
    write_project(folder, [])
    (folder / "backfills").mkdir()
    (folder / "backfills" / "email.toml").write_text(_DECLARATION)


def _check(url: str) -> None:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM users WHERE email_lower IS NULL").fetchone()
    if row != (0,):
        raise BenchError(f"{row and row[0]} rows are not done; more than its slices allow")
