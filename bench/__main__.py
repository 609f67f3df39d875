"""``python -m bench``: measure, print tables, and write the same figures as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import (
    backfill,
    export,
    flush,
    inprocess,
    memory,
    ordering,
    restarts,
    sockets,
    start,
    upgrade,
    waiting,
    websockets,
)
from bench.figures import Figures
from bench.goals import judge
from bench.processes import ROOT, BenchError, cores
from bench.rows import chosen
from bench.setting import Setting, sink
from bench.tables import table, verdicts
from tests.cluster.errors import ClusterError
from tests.cluster.processes import end_as_by_ctrl_c
from tests.cluster.progress import Progress
from tests.cluster.toolchain import debian_packages

SECTIONS = {
    "inprocess": (inprocess.measure, "in process: µs per request, and µs added to bare"),
    "sockets": (sockets.measure, "over sockets: throughput as a share of bare"),
    "start": (start.measure, "start to first answer"),
    "memory": (memory.measure, "resident memory after the load"),
    "restarts": (restarts.measure, "requests that fail while the process is replaced"),
    "flush": (flush.measure, "what is left of 100 requests that arrive after SIGTERM"),
    "ordering": (ordering.measure, "the Orders service beside the same done plainly: throughput"),
    "websockets": (websockets.measure, "resident memory for each of 2,000 idle WebSockets"),
    "export": (export.measure, "a million orders as CSV: wall time as a multiple of COPY's"),
    "upgrade": (upgrade.measure, "a whole migration run: wall time as a multiple of Alembic's"),
    "waiting": (waiting.measure, "queries while an ALTER TABLE waits behind a reader of 30 s"),
    "backfill": (backfill.measure, "queries beside a backfill of a million rows"),
}
PACKAGES = (
    "fastapi",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "pydantic",
    "prometheus-fastapi-instrumentator",
    "starlette-exporter",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-fastapi",
    "sentry-sdk",
    "logfire",
    "elastic-apm",
    "alembic",
    "sqlalchemy",
    "psycopg",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for; return 1 when a part of it could not be measured."""
    arguments = _arguments(argv)
    end_as_by_ctrl_c()
    try:
        rows = chosen(arguments.rows)
        debian_packages(["wrk"] if {"sockets", "ordering"} & {*arguments.sections} else [])
        server_core, other_core = cores()
    except (BenchError, ClusterError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    at, of = datetime.now(UTC).isoformat(timespec="seconds"), machine()
    os.sched_setaffinity(0, {other_core})
    failed = False
    sections: dict[str, Figures] = {}
    try:
        with sink(other_core) as counts:
            setting = Setting(rows, arguments.rounds, server_core, other_core, counts, Progress())
            for name in arguments.sections:
                measure, words = SECTIONS[name]
                try:
                    sections[name] = measure(setting)
                except BenchError as error:
                    failed = True
                    print(f"bench: {name}: {error}", file=sys.stderr)
                else:
                    print(f"\n{words}\n{table(sections[name])}\n", flush=True)
    except KeyboardInterrupt:
        return 130
    judged = judge(sections)
    if judged:
        print(verdicts(judged))
    of["load average after"] = os.getloadavg()
    report = {
        "at": at,
        "machine": of,
        "sections": sections,
        "goals": [
            {**asdict(one.goal), "measured": one.value, "reached": one.reached} for one in judged
        ],
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print(f"\n{machine_line(of)}\nas JSON: {arguments.json}")
    return int(failed)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"any of {', '.join(SECTIONS)}; all of them"
    )
    parser.add_argument(
        "--rounds", type=_positive, help="rounds of each section; more are steadier and take longer"
    )
    parser.add_argument(
        "--rows", nargs="+", default=[], metavar="ROW", help="only these, and what they refer to"
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=ROOT / "bench" / "results" / "latest.json",
        metavar="FILE",
        help="where the figures are written besides; bench/results/latest.json",
    )
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.sections if name not in SECTIONS]:
        parser.error(f"no section is called {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    arguments.sections = arguments.sections or list(SECTIONS)
    return arguments


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def machine() -> dict[str, Any]:
    """What a figure depends on, besides the code."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "load average before": os.getloadavg(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def machine_line(machine: dict[str, Any]) -> str:
    """The same in a line, with a warning where the figures cannot be trusted."""
    before, after = machine["load average before"][0], machine["load average after"][0]
    line = (
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}; "
        f"load average {before:.1f} before, {after:.1f} after"
    )
    busy = before > machine["cores"] / 2
    return f"{line}\nThe machine was busy before: measure again on an idle one." if busy else line


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    raise SystemExit(main())
