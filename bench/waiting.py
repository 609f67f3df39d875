"""p99 of a service's queries while an ALTER TABLE waits behind a reader of 30 seconds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg

from bench.database import Load, database, make_users, p99
from bench.figures import Figures
from bench.migrations import COMMANDS, finish, start, write_project
from bench.setting import Setting

READER = 30.0  # seconds
STEADY = 15.0  # seconds
WARM_UP = 2.0
ROWS = 10_000


def measure(setting: Setting) -> Figures:
    """Let each program wait once behind the reader, under the same load.

    Raises:
        BenchError: a program failed.
    """
    setting.progress.plan(len(COMMANDS))
    figures: Figures = {}
    for name in COMMANDS:
        step = f"{name} behind a reader of {READER:g} s"
        with setting.progress.step(step), database(setting) as (url, folder):
            make_users(url, ROWS)
            write_project(folder, ["SELECT 1", "ALTER TABLE users ADD COLUMN nickname text"])
            finish(start(("alembic", "upgrade", "r0"), folder, url))
            figures[name] = asyncio.run(_measure(url, folder, COMMANDS[name]))
    return figures


async def _measure(url: str, folder: Path, command: tuple[str, ...]) -> dict[str, float]:
    async with Load(url, ROWS) as load:
        await load.during(asyncio.sleep(WARM_UP))
        steady = await load.during(asyncio.sleep(STEADY))
        within = await load.during(_wait_behind_reader(url, folder, command))
    return {
        "ratio": p99(within) / p99(steady),
        "p99 ms": p99(within) * 1e3,
        "longest ms": max(within) * 1e3,
        "steady p99 ms": p99(steady) * 1e3,
    }


async def _wait_behind_reader(url: str, folder: Path, command: tuple[str, ...]) -> None:
    async with await psycopg.AsyncConnection.connect(url) as reader:
        await reader.execute("SELECT count(*) FROM users")  # and keeps its transaction open
        program = start(command, folder, url)
        ended = asyncio.create_task(asyncio.to_thread(finish, program))
        await asyncio.wait({ended}, timeout=READER)
    await ended
