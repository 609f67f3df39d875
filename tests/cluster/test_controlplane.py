"""The control plane alone, as every other test uses it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.cluster.controlplane import ControlPlane
from tests.cluster.kubectl import kubectl

KEEP_ONE = """
import sys, time
from pathlib import Path
from tests.cluster.controlplane import ControlPlane
with ControlPlane(Path(sys.argv[1])) as plane:
    print(*(process.pid for process in plane.processes), flush=True)
    time.sleep(600)
"""


def test_it_enforces_roles_and_issues_tokens(tmp_path: Path) -> None:
    with ControlPlane(tmp_path) as plane:
        kubectl(plane.kubeconfig, "create", "serviceaccount", "operator")
        token = kubectl(plane.kubeconfig, "create", "token", "operator").strip()
        allowed = kubectl(
            plane.kubeconfig,
            *("create", "role", "reader", "--verb=list", "--resource=pods"),
        )
        assert "created" in allowed
        as_operator = (
            "--token",
            token,
            "auth",
            "whoami",
            "-o=jsonpath={.status.userInfo.username}",
        )
        # The admin certificate would win over a token, so the user is taken out first.
        anonymous = tmp_path / "anonymous.kubeconfig"
        anonymous.write_text(plane.kubeconfig.read_text())
        kubectl(anonymous, "config", "unset", "users")
        assert kubectl(anonymous, *as_operator) == "system:serviceaccount:default:operator"
        pids = [process.pid for process in plane.processes]
    assert not any(_alive(pid) for pid in pids)


def test_a_killed_test_run_leaves_no_process(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", KEEP_ONE, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    with holder.stdout as said:
        pids = [int(pid) for pid in said.readline().split()]
    assert len(pids) == 2
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in pids)


def _alive(pid: int) -> bool:
    """Running; a zombie that its new parent has not collected yet is not."""
    try:
        os.kill(pid, 0)
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
