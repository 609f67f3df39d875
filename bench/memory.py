"""Resident memory after the same number of requests."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from statistics import median

from bench.client import load
from bench.figures import Figures, ratio
from bench.rows import BARE, FULL
from bench.setting import Setting

ROUNDS = 3
REQUESTS = 10_000


def measure(setting: Setting) -> Figures:
    """Load a fresh process of each row once a round."""
    rounds = setting.rounds or ROUNDS
    rows = setting.named(BARE, "naive", FULL, "tidegate-100")
    mebibytes: defaultdict[str, list[float]] = defaultdict(list)
    setting.progress.plan(rounds)
    for number in range(rounds):
        with setting.progress.step(f"memory after {REQUESTS:,} requests: {number + 1} of {rounds}"):
            for row in setting.shuffled(rows):
                with setting.start(row) as server:
                    server.until_answering()
                    asyncio.run(load(server.port, REQUESTS))
                    mebibytes[row.name].append(server.rss())
    return {
        row.name: {
            "ratio": ratio(mebibytes[row.name], mebibytes[BARE])["median"],
            "MiB": median(mebibytes[row.name]),
        }
        for row in rows
    }
