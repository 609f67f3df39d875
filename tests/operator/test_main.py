"""The entry: what it is told, what it loads, and how it says that it cannot start."""

import asyncio
import http.server
import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import httpx
import kopf
import pytest

from tests.cluster.controlplane import free_port
from tests.operator.world import eventually
from tidegate_operator import main
from tidegate_operator.kube import ApiError, Kube, credentials
from tidegate_operator.settings import Settings


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_it_loads_neither_fastapi_nor_sqlalchemy_nor_a_whole_client_library() -> None:
    # kopf loads kubernetes_asyncio where it finds it; the operator's image has none.
    code = (
        "import sys; sys.modules['kubernetes_asyncio'] = None; import tidegate_operator.main; "
        "print(*sorted({name.partition('.')[0] for name, it in sys.modules.items() if it}))"
    )
    loaded = set(run("-c", code).stdout.split())
    assert {"kopf", "tidegate"} <= loaded
    assert not loaded & {"fastapi", "starlette", "pydantic", "sqlalchemy", "kubernetes_asyncio"}


def test_namespaces_are_read_from_a_list_with_commas() -> None:
    assert Settings.from_env({}).namespaces == ()
    read = Settings.from_env({"WATCH_NAMESPACES": "shop, billing,,shop"})
    assert read.namespaces == ("shop", "billing")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WATCH_NAMESPACES", "shop,*"),
        ("TIDEGATE_ADMIN_PORT", "http"),
        ("TIDEGATE_ADMIN_PORT", "70000"),
        ("TIDEGATE_LOG_FORMAT", "xml"),
        ("TIDEGATE_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_the_right_ones(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name) as error:
        Settings.from_env({name: value})
    assert value.split(",")[-1] in str(error.value)


@pytest.mark.parametrize(
    ("env", "words"),
    [({"WATCH_NAMESPACES": "Shop"}, "WATCH_NAMESPACES"), ({}, "set KUBECONFIG")],
    ids=["setting", "no-cluster"],
)
def test_a_start_that_cannot_be_says_why_in_one_line(env: dict[str, str], words: str) -> None:
    ended = run("-m", "tidegate_operator.main", TIDEGATE_ADMIN_PORT=str(free_port()), **env)
    assert ended.returncode == 1
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("text", [None, "", "current-context: it", "{", "- a\n- b"])
def test_a_kubeconfig_that_cannot_be_read_is_told_as_such(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(kopf.LoginError, match="kubeconfig"):
        credentials(kopf.OperatorSettings())


@pytest.mark.parametrize(
    ("host", "server"),
    [("10.96.0.1", "https://10.96.0.1:6443"), ("fd00::1", "https://[fd00::1]:6443")],
)
def test_in_a_pod_it_needs_no_cluster_dns(
    host: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = kopf.ConnectionInfo(server="https://kubernetes.default.svc", token="it")
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: account)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    found = credentials(kopf.OperatorSettings())
    assert (found.server, found.token) == (server, "it")


def test_a_port_in_use_is_told_with_the_variable_to_set() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:  # noqa: S104 - as the operator does
        port = str(taken.getsockname()[1])
        ended = run("-m", "tidegate_operator.main", TIDEGATE_ADMIN_PORT=port)
    assert ended.returncode == 1
    assert port in ended.stderr
    assert "TIDEGATE_ADMIN_PORT" in ended.stderr


class WithoutCrd(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


def test_it_waits_for_its_crd_alive_but_not_ready(tmp_path: Path) -> None:
    """As in the seconds after `helm install`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), WithoutCrd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig, port, log = tmp_path / "config", free_port(), tmp_path / "log"
    kubeconfig.write_text(
        f"""{{"current-context": "it",
        "contexts": [{{"name": "it", "context": {{"cluster": "it", "user": "it"}}}}],
        "clusters": [{{"name": "it", "cluster":
            {{"server": "http://127.0.0.1:{server.server_port}"}}}}],
        "users": [{{"name": "it", "user": {{}}}}]}}"""
    )
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tidegate_operator.main"],
            env={"KUBECONFIG": str(kubeconfig), "TIDEGATE_ADMIN_PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually("the wait told", lambda: "schemagates.tidegate.dev" in log.read_text())
        base = f"http://127.0.0.1:{port}/health"
        assert httpx.get(f"{base}/live").status_code == 200
        assert httpx.get(f"{base}/ready").status_code == 503
    finally:
        process.terminate()
        process.wait(10)
        server.shutdown()
        server.server_close()


class Scripted:
    """An API server that answers as told, one answer after the other; `None` is none at all."""

    def __init__(self, answers: Iterator[bool | None]) -> None:
        self._answers = answers

    async def serves_gates(self) -> bool:
        answer = next(self._answers)
        if answer is None:
            raise ApiError("the API server does not answer")
        return answer


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the wait for the CRD be 0.2 s, with 0.05 s between the tries."""
    monkeypatch.setattr(main, "CRD_WAIT", 0.2)
    monkeypatch.setattr(main, "_ForEver", lambda: itertools.repeat(0.05))


@pytest.mark.usefixtures("soon")
def test_an_api_server_that_is_away_at_the_start_is_waited_for() -> None:
    away = itertools.repeat(None, 10)
    answers = itertools.chain([False], away, [False], away, [True])
    asyncio.run(main._wait_for_crd(cast("Kube", Scripted(answers))))
    assert next(answers, "all were asked for") == "all were asked for"


@pytest.mark.usefixtures("soon")
def test_a_server_that_goes_on_saying_there_is_no_crd_is_believed() -> None:
    answers = itertools.chain([None], itertools.repeat(False))
    with pytest.raises(SystemExit, match=r"does not serve schemagates\.tidegate\.dev"):
        asyncio.run(main._wait_for_crd(cast("Kube", Scripted(answers))))
