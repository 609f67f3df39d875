"""The service's tests run it in process for the API, and as a process for its life and death."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.migrate.conftest import clean_environment
from tests.ports import free_ports as free_ports
from tests.sinks.fixtures import black_hole as black_hole
from tests.sinks.fixtures import collector as collector
from tests.sinks.fixtures import otlp_sink as otlp_sink

TIDEGATE = [sys.executable, "-m", "tidegate.cli"]


@dataclass
class Service:
    """A running `tidegate serve`, and how to speak with it."""

    process: subprocess.Popen[str]
    url: str
    admin: str

    def until_ready(self) -> httpx.Response:
        """Wait for /health/ready to say yes; return what it said."""
        return self.until(lambda answer: answer.status_code == 200)

    def until(self, satisfied: Callable[[httpx.Response], bool]) -> httpx.Response:
        """Ask /health/ready until its answer satisfies."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                answer = httpx.get(f"{self.admin}/health/ready", timeout=5)
            except httpx.TransportError:
                answer = None
            if answer is not None and satisfied(answer):
                return answer
            time.sleep(0.05)
        self.process.kill()
        raise AssertionError(f"never satisfied: {answer and answer.text}\n{self.stop()}")

    def stop(self) -> str:
        """Wait for the process to end; return what it logged."""
        output, _ = self.process.communicate(timeout=30)
        return output


Serve = Callable[..., Service]


def migrate(database_url: str, config: Path, *arguments: str) -> None:
    """Bring the database to the heads of a project."""
    subprocess.run(
        [*TIDEGATE, "migrate", "up", "--config", str(config), *arguments],
        env=clean_environment() | {"DATABASE_URL": database_url},
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="session")
def manifest(orders_alembic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the reference service ships, as its image's build writes it."""
    path = tmp_path_factory.mktemp("manifest") / "manifest.json"
    command = ["migrate", "manifest", "--config", str(orders_alembic), "--output", str(path)]
    subprocess.run([*TIDEGATE, *command], check=True)
    return path


@pytest.fixture
def migrated_url(database_url: str, orders_alembic: Path) -> str:
    """A database with the reference service's tables."""
    migrate(database_url, orders_alembic)
    return database_url


@pytest.fixture
def serve(manifest: Path) -> Iterator[Serve]:
    """Start `tidegate serve`; whatever still runs at the end is killed."""
    started: list[Service] = []

    def start(target: str = "orders.main:app", **environment: str) -> Service:
        port, admin_port = free_ports()
        settings = {
            "APP_ENV": "development",
            "TIDEGATE_HOST": "127.0.0.1",
            "TIDEGATE_PORT": str(port),
            "TIDEGATE_ADMIN_PORT": str(admin_port),
            "TIDEGATE_DRAIN_DELAY": "1",
            "TIDEGATE_DRAIN_TIMEOUT": "5",
            "TIDEGATE_MANIFEST": str(manifest),
        }
        process = subprocess.Popen(
            [*TIDEGATE, "serve", target],
            env=clean_environment() | settings | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        service = Service(
            process,
            f"http://127.0.0.1:{environment.get('TIDEGATE_PORT', port)}",
            f"http://127.0.0.1:{environment.get('TIDEGATE_ADMIN_PORT', admin_port)}",
        )
        started.append(service)
        return service

    yield start
    for service in started:
        if service.process.poll() is None:
            service.process.kill()
        service.process.communicate()
