"""Clients that keep asking while a release rolls: bounded in number, pace and time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import httpx


@dataclass
class Answers:
    """What the clients got: how many good answers, and every failure in words."""

    good: int = 0
    failures: list[str] = field(default_factory=list)


@contextmanager
def steady_clients(url: str, *, clients: int = 4, at_most: float = 300.0) -> Iterator[Answers]:
    """Ask for the catalogue over kept-alive connections until the block ends."""
    answers = Answers()
    over = threading.Event()
    lock = threading.Lock()
    deadline = time.monotonic() + at_most

    pages = count()  # another one each time: the database has to answer, not the cache

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=10) as client:
            while not over.wait(0.02) and time.monotonic() < deadline:
                try:
                    status = client.get(f"/api/v1/products?offset={next(pages)}").status_code
                    failure = "" if status == 200 else f"status {status}"
                except httpx.TransportError as error:
                    failure = f"{type(error).__name__}: {error}"
                with lock:
                    if failure:
                        answers.failures.append(failure)
                    else:
                        answers.good += 1

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()
