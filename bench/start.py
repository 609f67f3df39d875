"""Seconds from the start of the process to the first 200."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from bench.figures import Figures, ratio
from bench.rows import BARE, FULL
from bench.setting import Setting

ROUNDS = 10


def measure(setting: Setting) -> Figures:
    """Start each row once a round, in random order; the first start only warms the disk."""
    rounds = setting.rounds or ROUNDS
    rows = setting.named(BARE, "naive", FULL)
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    setting.progress.plan(rounds + 1)
    for number in range(-1, rounds):
        title = f"round {number + 1} of {rounds}" if number >= 0 else "warm up"
        with setting.progress.step(f"start to first answer: {title}"):
            for row in setting.shuffled(rows):
                with setting.start(row) as server:
                    took = server.until_answering()
                if number >= 0:
                    seconds[row.name].append(took)
    return {
        row.name: {
            "ratio": ratio(seconds[row.name], seconds[BARE])["median"],
            "seconds": median(seconds[row.name]),
        }
        for row in rows
    }
