"""What every measurement is given: rows, rounds, cores, the sink, and where to show progress."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from bench.processes import Child, Server, free_ports
from bench.rows import Row
from bench.sink import Counts
from tests.cluster.progress import Progress

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """One run of the bench."""

    rows: tuple[Row, ...]
    rounds: int | None
    """``None``: as many as the section takes for its figures to hold."""
    server_core: int
    other_core: int
    sink: Counts
    progress: Progress
    dice: random.Random = field(default_factory=random.Random)

    def shuffled(self, turns: Sequence[T]) -> list[T]:
        """Them in another order each time: what drifts must not favour one of them."""
        return self.dice.sample(turns, len(turns))

    def start(self, row: Row, **extra: str) -> Server:
        """Start a server on its core."""
        return Server(row, self.sink.url, self.server_core, extra)

    def named(self, *names: str) -> tuple[Row, ...]:
        """Rows that a section is about, those of them that were asked for."""
        return tuple(row for row in self.rows if row.name in names)


@contextmanager
def sink(core: int) -> Iterator[Counts]:
    """Run the sink in a process of its own."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "bench.sink:app", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--log-level", "warning", "--lifespan", "off"]
    with Child("the sink", command, {}, core) as child:
        counts = Counts(port)
        child.until(counts.answers)
        yield counts
