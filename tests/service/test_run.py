"""`make run`: the service and its worker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from tests.cluster.shopping import make_report, order_tea
from tests.migrate.conftest import clean_environment
from tests.run import ROOT
from tests.service.conftest import free_ports


@pytest.fixture
def state() -> Iterator[Path]:
    """A folder that PostgreSQL's own user may enter, unlike pytest's."""
    with TemporaryDirectory(prefix="tidegate-run-") as directory:
        os.chmod(directory, 0o755)  # noqa: PTH101, S103 - see above
        yield Path(directory)


@contextmanager
def running(state: Path, **environment: str) -> Iterator[tuple[str, str]]:
    """Run it in a process group of its own, as a terminal does; leave with Ctrl-C.

    Its address, and what it said until then.
    """
    port, admin_port = free_ports()
    code = f"from pathlib import Path; from tests.run import main; exit(main(Path({str(state)!r})))"
    ports = {"TIDEGATE_PORT": str(port), "TIDEGATE_ADMIN_PORT": str(admin_port)}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean_environment() | ports | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    said = ""
    try:
        for line in process.stdout:
            said += line
            if line.startswith("Ctrl-C stops"):
                break
        assert process.poll() is None, said
        yield f"http://127.0.0.1:{port}", said
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_ctrl_c_stops_service_and_database_and_keeps_the_data(state: Path) -> None:
    with running(state) as (url, said):
        example = "export KEY=" + said.partition("export KEY=")[2].partition("\n\n")[0]
        made = json.loads(subprocess.check_output(["/bin/sh", "-c", example], text=True))
        assert (made["sku"], made["stock"]) == ("tea", 10)
        assert (state / "postgres" / "postmaster.pid").exists()
        signed_in = re.search(r"with the password (\S+),", said)
        assert signed_in
        assert make_report(url, signed_in[1])["status"] == "done"  # by the worker
        order, read = order_tea(url, example.partition("=")[2].partition("\n")[0])
        assert (read, order["total_cents"]) == (order, 900)
    assert not (state / "postgres" / "postmaster.pid").exists()
    with running(state) as (url, _):
        assert [entry["sku"] for entry in httpx.get(f"{url}/api/v1/products").json()][:1] == ["tea"]


def test_database_url_overrides_the_embedded_database_and_nobody_is_made_there(
    state: Path, database_url: str
) -> None:
    with running(state, DATABASE_URL=database_url) as (url, said):
        assert httpx.get(f"{url}/api/v1/products").json() == []
        assert "seed --admin EMAIL" in said
        assert "KEY=" not in said
    assert not (state / "postgres").exists()
