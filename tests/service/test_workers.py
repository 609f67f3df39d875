"""Several workers under gunicorn: one service to whoever calls, probes, scrapes or ends it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.migrate.conftest import clean_environment
from tests.service.conftest import Serve, Service

ENDING = "tests.service.apps:ending"


@pytest.fixture(autouse=True)
def temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have what a killed master leaves behind cleared away with the test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def until_workers(service: Service, count: int, *, without: int = 0) -> set[int]:
    """Call over fresh connections until ``count`` workers have answered; return their pids."""
    seen: set[int] = set()
    deadline = time.monotonic() + 30
    while len(seen) < count:
        assert time.monotonic() < deadline, seen
        # At once: a worker that has nothing to do may take all that come one by one.
        with ThreadPoolExecutor(8) as pool:
            for answer in pool.map(lambda _: httpx.get(f"{service.url}/pid"), range(8)):
                seen.add(answer.json())
        seen.discard(without)
    return seen


def answered(service: Service) -> float:
    """Return what a scrape says of the requests to /pid."""
    text = httpx.get(f"{service.admin}/metrics", timeout=10).text
    found = re.search(r'^http_requests_total\{handler="/pid".*\} (\S+)$', text, re.M)
    assert found, text
    return float(found[1])


@contextmanager
def stopped(worker: int) -> Iterator[None]:
    """Let a worker stand still; before it really does, it may take one more connection."""
    os.kill(worker, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + 10
        while states(worker) != {"T"}:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def states(process: int) -> set[str]:
    """Return the states of a process's threads, by the letters of ps."""
    stats = Path(f"/proc/{process}/task").glob("*/stat")
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in stats}


def test_any_worker_tells_the_totals_of_all_also_of_those_that_died(
    serve: Serve, tmp_path: Path
) -> None:
    service = serve(ENDING, WEB_CONCURRENCY="2", PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    service.until_ready()
    one, other = until_workers(service, 2)
    total = answered(service)
    for worker in (one, other):
        with stopped(worker):
            assert answered(service) == total  # so the other one answers
            assert httpx.get(f"{service.admin}/health/ready").json()["status"] == "degraded"
    assert list(tmp_path.glob(f"gauge_live*_{one}.db"))
    os.kill(one, signal.SIGKILL)
    until_workers(service, 2, without=one)
    assert answered(service) > total
    # What it counted stays; how it was is over.
    assert len(list(tmp_path.glob(f"counter_{one}.db"))) == 1
    assert list(tmp_path.glob(f"gauge_live*_{one}.db")) == []


def test_a_scrape_by_openmetrics_gets_openmetrics(serve: Serve) -> None:
    service = serve(ENDING, WEB_CONCURRENCY="2")
    service.until_ready()
    httpx.get(f"{service.url}/pid")
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    answer = httpx.get(f"{service.admin}/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_sigterm_drains_all_workers_and_leaves_nothing_behind(serve: Serve, tmp_path: Path) -> None:
    service = serve(ENDING, WEB_CONCURRENCY="2", TIDEGATE_DRAIN_DELAY="0")
    service.until_ready()
    workers = until_workers(service, 2)
    assert [each.name for each in tmp_path.glob("tidegate-metrics-*")]
    with httpx.stream("GET", f"{service.url}/stream?seconds=2", timeout=10) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "0"
        service.process.send_signal(signal.SIGTERM)
        assert [next(lines) for _ in range(10)][-1] == "10"
        for each in workers:  # as a supervisor does that signals the whole group
            with suppress(ProcessLookupError):  # the idle one may have ended
                os.kill(each, signal.SIGTERM)
        assert len(list(lines)) == 29
    output = service.stop()
    assert service.process.returncode == 0
    assert output.count("the last span is sent within 4.5 s") == 2
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_ends_alone_is_replaced_and_its_counts_stay(serve: Serve) -> None:
    service = serve(ENDING, WEB_CONCURRENCY="2", TIDEGATE_DRAIN_DELAY="1")
    service.until_ready()
    one, _ = until_workers(service, 2)
    total = answered(service)
    os.kill(one, signal.SIGTERM)
    until_workers(service, 2, without=one)
    assert answered(service) > total


def test_ctrl_c_ends_master_and_workers_without_the_delay(serve: Serve) -> None:
    service = serve(ENDING, WEB_CONCURRENCY="2", TIDEGATE_DRAIN_DELAY="300")
    service.until_ready()
    for each in until_workers(service, 2):  # a terminal signals all of them
        os.kill(each, signal.SIGINT)
    service.process.send_signal(signal.SIGINT)
    output = service.stop()
    assert service.process.returncode == 0
    assert output.count("the last span is sent within 4.5 s") == 2
    assert "Traceback" not in output


def test_workers_end_when_their_master_is_killed(serve: Serve) -> None:
    service = serve(ENDING, WEB_CONCURRENCY="2", TIDEGATE_DRAIN_DELAY="0")
    service.until_ready()
    until_workers(service, 2)
    service.process.kill()
    output = service.stop()  # returns when nobody holds the pipe any more
    assert output.count("gunicorn's master is gone") == 2


def test_a_folder_from_the_environment_is_cleaned_of_an_earlier_start_and_kept(
    serve: Serve, tmp_path: Path
) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "counter_1.db").write_bytes(b"left behind")
    service = serve(ENDING, WEB_CONCURRENCY="2", PROMETHEUS_MULTIPROC_DIR=str(folder))
    service.until_ready()
    assert httpx.get(f"{service.admin}/metrics").status_code == 200
    service.process.send_signal(signal.SIGTERM)
    service.stop()
    assert folder.is_dir()


def test_a_startup_that_fails_ends_it_with_3_and_no_second_try(serve: Serve) -> None:
    service = serve("tests.service.apps:broken", WEB_CONCURRENCY="2", TIDEGATE_LOG_FORMAT="console")
    output = service.stop()
    assert service.process.returncode == 3
    assert 1 <= output.count("Booting worker") <= 2


@pytest.mark.parametrize(
    ("target", "environment", "words"),
    [
        ("tests.service.nowhere:app", {}, 'Could not import module "tests.service.nowhere"'),
        (ENDING, {"TIDEGATE_DRAIN_DELAY": "-1"}, "TIDEGATE_DRAIN_DELAY: Input should be"),
        (ENDING, {"WEB_CONCURRENCY": "many"}, "WEB_CONCURRENCY: 'many' is no number of workers"),
        (ENDING, {"WEB_CONCURRENCY": "0"}, "write a whole number from 1 to 256"),
        (ENDING, {"WEB_CONCURRENCY": "-2"}, "WEB_CONCURRENCY: '-2' is no number"),
        (ENDING, {"WEB_CONCURRENCY": "99999999999"}, "WEB_CONCURRENCY: '99999999999' is no"),
        (ENDING, {"PROMETHEUS_MULTIPROC_DIR": "/dev/null"}, "PROMETHEUS_MULTIPROC_DIR: /dev/null"),
    ],
)
def test_what_no_worker_could_serve_says_so_once_and_exits_2(
    target: str, environment: dict[str, str], words: str, serve: Serve
) -> None:
    service = serve(target, **{"WEB_CONCURRENCY": "2"} | environment)
    output = service.stop()
    assert output.count(words) == 1, output
    assert service.process.returncode == 2
    assert "Traceback" not in output


def test_without_gunicorn_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['gunicorn'] = None; from tidegate.serve import main; "
        f"sys.exit(main(['{ENDING}', '--workers', '2']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "install tidegate[workers]" in done.stderr
    assert "Traceback" not in done.stderr
