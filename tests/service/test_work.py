"""`run_worker`: how a process that serves no HTTP ends."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.migrate.conftest import clean_environment
from tests.ports import free_ports

HEAD = """
import asyncio, os, signal
from tidegate import run_worker

async def work(worker):
"""
TAIL = """
raise SystemExit(run_worker(work, name="here"))
"""
SIGTERM = "    os.kill(os.getpid(), signal.SIGTERM)\n"


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("    pass", 0, "Health and metrics on"),
        ("    raise LookupError('a secret')", 1, "the work has failed, and the process ends"),
        (f"{SIGTERM}    await worker.wait_for_drain()", 0, "Draining: taking nothing new"),
        (f"{SIGTERM}    await asyncio.sleep(60)", 0, "did not end within the drain time-out"),
        (
            f"{SIGTERM}    await worker.wait_for_drain()\n{SIGTERM}    await asyncio.sleep(60)",
            0,
            "",
        ),
    ],
)
def test_work_ends_by_itself_by_a_fault_or_by_sigterm(body: str, code: int, said: str) -> None:
    ended = run(HEAD + body + TAIL)
    assert ended.returncode == code, ended.stdout
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert any(said in line["message"] for line in lines)
    assert "a secret" not in ended.stdout


def test_an_admin_port_that_is_taken_is_said_before_anything_begins() -> None:
    ended = run(HEAD + "    pass" + TAIL, TIDEGATE_ADMIN_PORT="1", TIDEGATE_HOST="203.0.113.1")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "here: TIDEGATE_HOST" in ended.stderr


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "TIDEGATE_HOST": "127.0.0.1",
        "TIDEGATE_ADMIN_PORT": str(free_ports()[0]),
        "TIDEGATE_DRAIN_TIMEOUT": "1",
        "TIDEGATE_LOG_FORMAT": "json",
    }
    return subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment() | settings | environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
