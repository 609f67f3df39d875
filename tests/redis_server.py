"""A real Redis, which can be stopped and started again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from tests.cluster.debian import unpacked
from tests.cluster.processes import Process, wait_until
from tests.ports import free_ports


class RedisServer:
    """Redis on 127.0.0.1, which keeps nothing on disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = free_ports()[0]
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._process: Process | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = unpacked("redis-server")
        options = ["--bind", "127.0.0.1", "--port", str(self._port), "--save", "", "--appendonly"]
        self._process = Process(
            "Redis",
            [program.path, *options, "no", "--dir", self._directory],
            self._directory / "redis.log",
            program.environment,
        )
        wait_until("An answer of Redis", self._answers, 20, [self._process])

    def stop(self) -> None:
        """Kill it: what it knew is lost."""
        if self._process:
            self._process.kill()
            self._process = None

    def _answers(self) -> bool:
        with Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False


@contextmanager
def redis_server(directory: Path) -> Iterator[RedisServer]:
    """Run a Redis; ``directory`` holds its log."""
    server = RedisServer(directory)
    server.start()
    try:
        yield server
    finally:
        server.stop()
