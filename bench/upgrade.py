"""Wall time of a whole `tidegate migrate up` beside Alembic's own `upgrade heads`."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import psycopg

from bench.database import database
from bench.figures import Figures, ratio
from bench.migrations import COMMANDS, finish, start, write_project
from bench.setting import Setting

ROUNDS = 12
FEW = 4  # rounds of what takes seconds
PENDING = 500

_FIRST = ("alembic", "upgrade", "r0")


def measure(setting: Setting) -> Figures:
    """Run both in turns: with nothing pending, then with 500 revisions.

    Raises:
        BenchError: one of them failed.
    """
    rounds = setting.rounds or ROUNDS
    few = min(rounds, FEW)
    setting.progress.plan(rounds + few + 1)
    nothing: defaultdict[str, list[float]] = defaultdict(list)
    pending: defaultdict[str, list[float]] = defaultdict(list)
    with database(setting) as (url, folder):
        columns = (f"ALTER TABLE things ADD COLUMN c{n} integer" for n in range(PENDING))
        write_project(folder, ["CREATE TABLE things (id bigint PRIMARY KEY)", *columns])
        with setting.progress.step("upgrade: a database that is up to date"):
            current = _create(url, "current")
            _run(COMMANDS["tidegate"], folder, current)
        for number in range(rounds):
            with setting.progress.step(f"nothing pending: {number + 1} of {rounds}"):
                for name in setting.dice.sample(list(COMMANDS), len(COMMANDS)):
                    nothing[name].append(_run(COMMANDS[name], folder, current))
        for number in range(few):
            with setting.progress.step(f"{PENDING} pending: {number + 1} of {few}"):
                for name in setting.dice.sample(list(COMMANDS), len(COMMANDS)):
                    behind = _create(url, f"{name}{number}")
                    _run(_FIRST, folder, behind)  # an empty database needs no lint
                    pending[name].append(_run(COMMANDS[name], folder, behind))
    return {
        name: {
            "nothing pending": ratio(nothing[name], nothing["alembic"])["median"],
            "nothing, s": median(nothing[name]),
            f"{PENDING} pending": ratio(pending[name], pending["alembic"])["median"],
            f"{PENDING}, s": median(pending[name]),
        }
        for name in COMMANDS
    }


def _create(url: str, name: str) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def _run(command: tuple[str, ...], folder: Path, url: str) -> float:
    began = time.monotonic()
    finish(start(command, folder, url))
    return time.monotonic() - began
