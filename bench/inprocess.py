"""µs per request in process, and µs added to the bare application.

Every row has an interpreter of its own on the server's core and waits, held still, for its turn;
a round gives each row one turn, in random order. A turn is three runs of up to 2,000 calls or about
a tenth of a second, and the fastest counts.
"""

from __future__ import annotations

import json
import os
import select
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median

from bench.figures import Figures, added
from bench.processes import Child, free_ports, row_environment
from bench.rows import BARE, Row
from bench.setting import Setting

ROUNDS = 12
CALLS = 2000
RUN_SECONDS = 0.1


@dataclass
class Worker:
    """A row's process, and what it has measured so far, by round."""

    row: Row
    child: Child
    answers: int
    wall: list[float] = field(default_factory=list)
    cpu: list[tuple[float, int]] = field(default_factory=list)

    def turn(self) -> None:
        """Let it run once and keep what it measured."""
        calls = CALLS // 10
        if self.wall:
            calls = max(calls, min(CALLS, round(RUN_SECONDS * 1e6 / self.wall[-1])))
        self.child.resume()
        self.child.tell(str(calls))
        line = b""
        while not line.endswith(b"\n"):
            self.child.until(lambda: _readable(self.answers))
            line += os.read(self.answers, 4096)
        self.child.pause()
        answer = json.loads(line)
        self.wall.append(min(answer["runs"]))
        self.cpu.append((answer["cpu"], answer["calls"]))

    def cpu_each(self) -> list[float]:
        """CPU µs per call between a turn and the next, exports in other threads included."""
        return [
            (after - before) / (calls - fewer) * 1e6
            for (before, fewer), (after, calls) in zip(self.cpu, self.cpu[1:], strict=False)
        ]


def measure(setting: Setting) -> Figures:
    """Measure all rows."""
    rounds = setting.rounds or ROUNDS
    setting.progress.plan(rounds + 1)
    with ExitStack() as stack:
        with setting.progress.step(f"in process: start {len(setting.rows)} interpreters"):
            workers = {row.name: _start(row, setting, stack) for row in setting.rows}
            for worker in workers.values():
                worker.turn()  # its figures only say how many calls a turn takes
        for number in range(rounds):
            with setting.progress.step(f"in process: round {number + 1} of {rounds}"):
                for row in setting.shuffled(setting.rows):
                    workers[row.name].turn()
        return {name: _figures(worker, workers) for name, worker in workers.items()}


def _figures(worker: Worker, workers: dict[str, Worker]) -> dict[str, float]:
    reference = workers[worker.row.reference]
    cost = added(worker.wall[1:], reference.wall[1:])
    cpu = added(worker.cpu_each(), reference.cpu_each())
    return {
        "µs": min(worker.wall[1:]),
        "added": cost["least"],
        "per 50 µs": cost["least"] * 50 / min(workers[BARE].wall[1:]),
        "added, median": cost["median"],
        "CPU µs": median(worker.cpu_each()),
        "CPU added": cpu["median"],
    }


def _start(row: Row, setting: Setting, stack: ExitStack) -> Worker:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    (admin,) = free_ports(1)
    environment = row_environment(row, setting.sink.url) | {
        "BENCH_ANSWERS": str(writing),
        "TIDEGATE_HOST": "127.0.0.1",
        "TIDEGATE_ADMIN_PORT": str(admin),
    }
    child = stack.enter_context(
        Child(
            row.name,
            [sys.executable, "-m", "bench.worker"],
            environment,
            setting.server_core,
            keep=(writing,),
        )
    )
    os.close(writing)
    stack.callback(os.close, reading)
    return Worker(row, child, reading)


def _readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0.5)[0])
