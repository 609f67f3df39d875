"""The operator, or its API server, is away for a while. Nothing that happens meanwhile is lost."""

import contextlib
import socket
import threading
from pathlib import Path

import pytest

from tests.operator.world import BROKEN, Namespace, World, eventually, operator


@pytest.fixture
def shop(world: World) -> Namespace:
    return world.namespace()


@pytest.fixture
def home(world: World) -> Namespace:
    return world.namespace()


@pytest.fixture
def kubeconfig(world: World, home: Namespace, shop: Namespace, tmp_path: Path) -> Path:
    """For an operator that serves this test's namespace; no other one serves it."""
    return world.install(tmp_path, f"watchNamespaces={{{shop.name}}}", namespace=home.name)


def test_a_restart_catches_up_and_writes_nothing_that_has_not_changed(
    world: World, home: Namespace, shop: Namespace, kubeconfig: Path
) -> None:
    def asked(verb: str, resource: str) -> int:
        """How often the operator has asked for a verb on something of the name orders."""
        account = f"system:serviceaccount:{home.name}:op-tidegate-operator"
        about = [
            event["objectRef"] for event in world.requests_of(account) if event["verb"] == verb
        ]
        return len([it for it in about if (it["resource"], it.get("name")) == (resource, "orders")])

    shop.release("orders")
    shop.release("billing")
    with operator(kubeconfig, shop.name):
        shop.becomes("Ready", name="orders")
        shop.becomes("Ready", name="billing")
    reads, writes = asked("get", "deployments"), asked("patch", "schemagates")
    assert writes > 0
    shop.delete_job("billing-migrate")
    shop.ends(shop.job("billing", image="orders:2"), BROKEN)
    with operator(kubeconfig, shop.name):
        shop.becomes("MigrationError", name="billing")
        # The Deployment is what a look reads last before it would write.
        eventually("orders looked at", lambda: asked("get", "deployments") > reads)
    assert asked("patch", "schemagates") == writes


def test_the_operator_outlives_an_api_server_that_goes_away(
    world: World, shop: Namespace, kubeconfig: Path, tmp_path: Path
) -> None:
    token = kubeconfig.read_text().split('"token": "')[1].split('"')[0]
    with Line(world.plane.api_port) as line:
        through = world.kubeconfig(tmp_path, token, f"https://127.0.0.1:{line.port}")
        with operator(through, shop.name) as running:
            shop.release()
            shop.becomes("Ready")
            line.cut()
            shop.delete_job()
            shop.ends(shop.job(image="orders:2"), BROKEN)
            eventually("the outage noticed", lambda: "will retry" in running.log.read_text())
            assert running.health("live") == 200
            line.mend()
            shop.becomes("MigrationError")


class Line:
    """A connection to the API server that can be cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._is_cut = False

    def __enter__(self) -> "Line":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        self._is_cut = True
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._is_cut = False

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._is_cut:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open |= {near, far}
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.discard(source)
        source.close()
