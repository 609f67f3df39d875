"""Without `tidegate serve`: everything but the drain delay, and one line that says so."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.migrate.conftest import clean_environment
from tests.service.conftest import Service, free_ports

Start = Callable[..., Service]
WARNING = "this process does not run under `tidegate serve`"


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a server by its own command; whatever still runs at the end is killed."""
    started: list[Service] = []

    def run(*command: str) -> Service:
        port, admin_port = free_ports()
        process = subprocess.Popen(
            [sys.executable, "-m", *(word.replace("PORT", str(port)) for word in command)],
            env=clean_environment()
            | {"TIDEGATE_HOST": "127.0.0.1", "TIDEGATE_ADMIN_PORT": str(admin_port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        service = Service(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}")
        started.append(service)
        return service

    yield run
    for service in started:
        if service.process.poll() is None:
            service.process.terminate()
        service.process.communicate(timeout=30)


def uvicorn(start: Start, *options: str) -> Service:
    return start("uvicorn", "tests.service.apps:ending", "--port", "PORT", *options)


def gunicorn(start: Start, *options: str) -> Service:
    worker = ["--worker-class", "uvicorn_worker.UvicornWorker", "--no-control-socket"]
    bind = ["--bind", "127.0.0.1:PORT"]
    return start("gunicorn", "tests.service.apps:ending", *worker, *bind, *options)


@pytest.mark.parametrize("server", [uvicorn, gunicorn])
def test_the_hooks_work_and_the_log_says_once_what_is_missing(
    server: Callable[[Start], Service], start: Start
) -> None:
    service = server(start)
    assert service.until_ready().json()["status"] == "degraded"
    assert httpx.get(f"{service.url}/pid").status_code == 200
    assert 'http_requests_total{handler="/pid"' in httpx.get(f"{service.admin}/metrics").text
    service.process.send_signal(signal.SIGTERM)
    output = service.stop()
    assert output.count(WARNING) == 1
    assert "start it with `tidegate serve MODULE:APP`" in output
    assert output.count("the last span is sent within 4.5 s") == 1


def test_workers_that_cannot_share_the_admin_port_serve_on_and_say_what_to_do(
    start: Start,
) -> None:
    service = uvicorn(start, "--workers", "2")
    assert service.process.stdout
    output = ""
    while "cannot be opened (Address already in use)" not in output:
        output += service.process.stdout.readline()
        assert service.process.poll() is None, output
    service.until_ready()
    assert httpx.get(f"{service.url}/pid").status_code == 200
    service.process.send_signal(signal.SIGTERM)
    output += service.process.stdout.read()
    assert output.count("cannot be opened") == 1
    assert "Several workers can share one admin port under `tidegate serve --workers`" in output
    assert output.count("Started server process") == 2  # no worker was started again


def test_tidegate_serve_has_nothing_to_warn_of(start: Start) -> None:
    service = start("tidegate.cli", "serve", "tests.service.apps:broken")
    assert WARNING not in service.stop()
    assert service.process.returncode == 3
