"""`make up` and `make down` as commands: what they print works, and nothing stays behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.release import ROOT

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        bool(os.environ.get("KUBECONFIG")),
        reason="a cluster of somebody else's is neither made nor taken down",
    ),
]
NAME = "tidegate-e2e-down"


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.cluster.release", *arguments, "--name", NAME],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


def machine() -> dict[str, list[str]]:
    """What a cluster could leave behind. Processes by command, as others come and go."""
    tools = {
        "mounts": ["findmnt", "--noheadings", "--raw", "--output=TARGET"],
        "interfaces": ["ip", "-brief", "link"],
        "routes": ["ip", "route", "show", "table", "all"],
        "rules": ["iptables-save"],
        "namespaces": ["ip", "netns", "list"],
    }
    seen = {
        name: subprocess.run(tool, capture_output=True, text=True, check=True).stdout.splitlines()
        for name, tool in tools.items()
        if shutil.which(tool[0])
    }
    # Counters and time stamps change by themselves.
    seen["rules"] = [line for line in seen.get("rules", []) if not line.startswith(("#", ":"))]
    seen["control groups"] = sorted(
        str(path) for path in Path("/sys/fs/cgroup").rglob(f"*{NAME}*") if path.is_dir()
    )
    seen["processes"] = sorted(
        words
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if NAME in (words := read(path).replace("\0", " ")) and str(os.getpid()) not in path.parts
    )
    return seen


def read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it ended while we looked
        return ""


@pytest.fixture
def ports() -> dict[str, str]:
    return {"TIDEGATE_API_PORT": free_port(), "TIDEGATE_SERVICE_PORT": free_port()}


def test_what_make_up_prints_works_and_make_down_leaves_the_machine_as_it_was(
    ports: dict[str, str],
) -> None:
    before = machine()
    try:
        up = command("up", **ports)
        assert up.returncode == 0, up.stderr
        curls = re.findall(r"^  (curl .*/api/v1/orders.*)$", up.stdout, re.MULTILINE)
        assert len(curls) == 2
        created, read_back = (
            json.loads(subprocess.check_output(["/bin/sh", "-c", curl])) for curl in curls
        )
        assert (created["total_cents"], read_back["total_cents"]) == (450, 900)
        exported = re.search(r"^  (export PATH=.*)$", up.stdout, re.MULTILINE)
        assert exported
        look = f"{exported[1]}; kubectl get schemagates --namespace shop --no-headers"
        gates = subprocess.check_output(["/bin/bash", "-c", look], text=True)
        assert gates.split()[:3] == ["orders", "True", "Ready"]
        again = command("up", **ports)
        assert again.returncode == 0, again.stderr
        assert "already up" in again.stderr
    finally:
        down = command("down")
    assert down.returncode == 0, down.stderr
    assert machine() == before
    assert command("down").returncode == 0


def test_an_interrupted_up_cleans_behind_itself_and_the_next_one_works(
    ports: dict[str, str],
) -> None:
    before = machine()
    arguments = ["tests.cluster", "up", "--name", NAME]
    half = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=os.environ | ports,
        stderr=subprocess.PIPE,
        text=True,
        # Started from a shell's background it would ignore Ctrl-C, as programs should there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert half.stderr
    for line in half.stderr:
        if "wait for the API server" in line:
            half.send_signal(signal.SIGINT)
            break
    _, errors = half.communicate(timeout=60)
    assert half.returncode == 130, errors
    assert machine() == before
    try:
        whole = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=os.environ | ports,
            capture_output=True,
            text=True,
            check=False,
        )
        assert whole.returncode == 0, whole.stderr
    finally:
        down = command("down")
    assert down.returncode == 0
    assert machine() == before


def test_a_port_in_use_is_named_with_the_setting_that_moves_it(ports: dict[str, str]) -> None:
    before = machine()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = command("up", **(ports | {"TIDEGATE_SERVICE_PORT": port}))
    assert refused.returncode == 1
    assert port in refused.stderr
    assert "TIDEGATE_SERVICE_PORT" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert machine() == before
