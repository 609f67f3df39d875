"""The parts of the node that need no node."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from tests.cluster import node, processes
from tests.cluster.errors import ClusterError


def test_a_taken_port_is_named_with_a_way_to_choose_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ClusterError, match=rf"127\.0\.0\.1:{port}.*\n.*TIDEGATE_SERVICE_PORT="):
            node._listen(port, "the service", "TIDEGATE_SERVICE_PORT")


def test_a_process_is_known_by_its_start_and_a_dead_one_is_not_known() -> None:
    assert processes.start_time(os.getpid()).isdigit()
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError):
        processes.start_time(child.pid)  # a zombie runs nothing
    child.wait()


def test_killing_waits_for_the_end_and_a_second_time_does_nothing() -> None:
    child = subprocess.Popen(["sleep", "60"])
    processes.kill(child.pid)
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
    processes.kill(child.pid)
    child.returncode = -9  # collected above
