"""Ports for servers that a test starts."""

from __future__ import annotations

import itertools
import os
import random
import socket
from contextlib import suppress


def free_ports() -> tuple[int, int]:
    """Two ports that nobody listens on, and that nobody else of this run will take.

    Below those that the kernel gives to clients, and for each pytest process its own.
    """
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    found: list[int] = []
    while len(found) < 2:
        port = 20_000 + 1_000 * (process % 10) + next(_ports) % 1_000
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found[0], found[1]


_ports = itertools.count(random.randrange(1_000))
