"""Where a row's microseconds go: ``python -m bench.hotspots ROW``.

A timer interrupts the calls of :mod:`bench.worker` once a millisecond of processor time and notes
the function that was running; work inside C counts for the Python function that called it. Unlike
a tracing profiler it does not slow small functions down, so the shares hold.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType

import uvloop
from fastapi import FastAPI

from bench.figures import Figures
from bench.processes import ROOT, cores, free_ports, row_environment
from bench.rows import chosen
from bench.setting import sink
from bench.tables import table
from bench.worker import call, lifespan

CALLS = 1000
RUNS = 60
EVERY = 0.001  # seconds of processor time
SHOWN = 25


def main(name: str) -> None:
    """Print the functions that most of a row's time was spent in."""
    _, other_core = cores()
    (row,) = (row for row in chosen([name]) if row.name == name)
    (admin,) = free_ports(1)
    with sink(other_core) as counts, _standard_output_away() as terminal:
        os.environ |= row_environment(row, counts.url)
        os.environ |= {"TIDEGATE_HOST": "127.0.0.1", "TIDEGATE_ADMIN_PORT": str(admin)}
        from bench.served import app

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures = runner.run(_sample(app))
        os.write(terminal, f"{table(figures)}\n".encode())


async def _sample(app: FastAPI) -> Figures:
    seen: Counter[CodeType] = Counter()

    def note(_: int, frame: FrameType | None) -> None:
        if frame is not None:
            seen[frame.f_code] += 1

    async with lifespan(app):
        await call(app, CALLS)
        signal.signal(signal.SIGPROF, note)
        signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
        each = [await call(app, CALLS) for _ in range(RUNS)]
        signal.setitimer(signal.ITIMER_PROF, 0)
    total, mean = seen.total(), sum(each) / len(each)
    figures: Figures = {"all": {"µs": mean, "%": 100.0}}
    for code, count in seen.most_common(SHOWN):
        figures[_words(code)] = {"µs": count / total * mean, "%": count / total * 100}
    return figures


def _words(code: CodeType) -> str:
    path = code.co_filename.rpartition("site-packages/")[2].removeprefix(f"{ROOT}/")
    return f"{path}:{code.co_firstlineno} {code.co_qualname}"


@contextmanager
def _standard_output_away() -> Iterator[int]:
    terminal = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield terminal
    finally:
        os.dup2(terminal, 1)
        os.close(nowhere)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m bench.hotspots ROW, for example tidegate-5")
    main(sys.argv[1])
