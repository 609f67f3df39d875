"""Requests per second over sockets, as a share of the bare application's.

All servers share one core and only one of them runs at a time: wrk and the sink have the other
core. A round gives every row one short slice, in random order, and each slice is divided by the
bare one of the same round, so that a machine that drifts moves both. Every few rounds all servers
are started anew: where its memory lies and how its strings hash makes one process of a row up to
8 % faster or slower than the next, for as long as it lives.
"""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from bench.client import HEADERS
from bench.figures import Figures, by_median, ratio, share
from bench.processes import PATH, BenchError, Server
from bench.rows import Row
from bench.setting import Setting

ROUNDS = 16
ROUNDS_OF_A_PROCESS = 4
SLICE_SECONDS = 1
CONNECTIONS = 16
SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Slice:
    """What wrk saw."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int


def measure(setting: Setting) -> Figures:
    """Measure the rows that are served."""
    rounds = setting.rounds or ROUNDS
    rows = tuple(row for row in setting.rows if row.sockets)
    slices: defaultdict[str, list[Slice]] = defaultdict(list)
    sent: defaultdict[str, int] = defaultdict(int)
    spans = {row.name: -setting.sink.of(row.name, "spans") for row in rows}
    setting.progress.plan(rounds + 3 * ceil(rounds / ROUNDS_OF_A_PROCESS))
    for first in range(0, rounds, ROUNDS_OF_A_PROCESS):
        last = min(first + ROUNDS_OF_A_PROCESS, rounds)
        with _servers(setting, rows) as servers:
            with setting.progress.step("sockets: warm up"):
                for server in servers:
                    sent[server.name] += _slice(server).requests
            for number in range(first, last):
                with setting.progress.step(f"sockets: round {number + 1} of {rounds}"):
                    for server in setting.shuffled(servers):
                        seen = _slice(server)
                        sent[server.name] += seen.requests
                        slices[server.name].append(seen)
            with setting.progress.step("sockets: wait for the last spans"):
                for server in servers:
                    server.resume()
                setting.sink.settle()
    for name in spans:
        spans[name] += setting.sink.of(name, "spans")
    figures: Figures = {}
    for row in rows:
        mine = slices[row.name]
        figures[row.name] = _figures(mine, slices[row.reference])
        if row.spans:
            figures[row.name]["spans arrived"] = share(spans[row.name], sent[row.name] * row.spans)
    return figures


@contextmanager
def _servers(setting: Setting, rows: Sequence[Row]) -> Iterator[list[Server]]:
    """Start a server for each row, and hold all of them still."""
    with ExitStack() as stack:
        with setting.progress.step(f"sockets: start {len(rows)} servers"):
            servers = [stack.enter_context(setting.start(row)) for row in rows]
            for server in servers:
                server.until_answering()
            for server in servers:
                server.pause()
        yield servers


def _figures(mine: list[Slice], bare: list[Slice]) -> dict[str, float]:
    against = ratio([one.per_second for one in mine], [one.per_second for one in bare])
    middle = by_median(
        {
            "per second": [one.per_second for one in mine],
            "p50 ms": [one.p50_ms for one in mine],
            "p99 ms": [one.p99_ms for one in mine],
        }
    )
    return {"ratio": against["median"], "25 %": against["low"], "75 %": against["high"], **middle}


def _slice(server: Server) -> Slice:
    server.resume()
    try:
        seen = wrk(server.port)
    finally:
        server.pause()
    if seen.failed:
        raise BenchError(
            f"{server.name} failed {seen.failed} of {seen.requests} requests: its throughput says "
            "nothing. Look at what it prints: python -m bench inprocess --rows " + server.name
        )
    return seen


def wrk(
    port: int, path: str = PATH, headers: Mapping[str, str] = HEADERS, script: Sequence[str] = ()
) -> Slice:
    """Load a port with one slice: of GET, or of what the script's arguments ask for.

    Raises:
        BenchError: wrk failed.
    """
    command = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS)]
    command += ["--duration", f"{SLICE_SECONDS}s", "--script", str(SCRIPT)]
    for name, value in headers.items():
        command += ["--header", f"{name}: {value}"]
    command += [f"http://127.0.0.1:{port}{path}"]
    if script:
        command += ["--", *script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"wrk ended with {done.returncode}: {done.stderr or done.stdout}")
    return parse(done.stdout)


def parse(output: str) -> Slice:
    """Read the line of JSON that load.lua has wrk write after its own report."""
    read = json.loads(output.strip().splitlines()[-1])
    return Slice(
        requests=read["requests"],
        per_second=read["requests"] / read["us"] * 1e6,
        p50_ms=read["p50_us"] / 1000,
        p99_ms=read["p99_us"] / 1000,
        failed=read["failed"],
    )
