"""The end of a process: nobody is dropped, everybody hears of it, and it is over in time."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.service.conftest import Serve, Service

ENDING = "tests.service.apps:ending"
FAST = {"TIDEGATE_DRAIN_DELAY": "0", "TIDEGATE_DRAIN_TIMEOUT": "1"}


@pytest.fixture(autouse=True)
def temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have what a killed master leaves behind cleared away with the test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def open_websocket(service: Service, path: str) -> ClientConnection:
    return connect(f"{service.url.replace('http', 'ws')}{path}", open_timeout=10)


def read_to_the_end(websocket: ClientConnection) -> tuple[list[str | bytes], int]:
    """Return what the server still says, and its close code."""
    said = []
    with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012 - it is how a loop of them ends
        while True:
            said.append(websocket.recv(timeout=20))
    assert closed.value.rcvd
    return said, closed.value.rcvd.code


def end(service: Service) -> str:
    service.process.send_signal(signal.SIGTERM)
    output = service.stop()
    assert service.process.returncode == 0, output
    return output


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_websocket_application_has_its_say_before_the_client_sees_1012(
    workers: str, serve: Serve
) -> None:
    service = serve(ENDING, WEB_CONCURRENCY=workers, TIDEGATE_DRAIN_DELAY="3")
    service.until_ready()
    with open_websocket(service, "/goodbye") as websocket:
        websocket.send("hello")
        assert websocket.recv(timeout=5) == "hello"
        service.process.send_signal(signal.SIGTERM)
        service.until(lambda answer: answer.json()["status"] == "draining")
        websocket.send("still there?")
        # Endpoints have not heard of it everywhere: who still comes here is let in.
        with open_websocket(service, "/goodbye") as late:
            late.send("hello")
            assert read_to_the_end(late) == (["hello", "goodbye, 1012"], 1012)
        assert read_to_the_end(websocket) == (["still there?", "goodbye, 1012"], 1012)
    assert "Traceback" not in service.stop()
    assert service.process.returncode == 0


def test_an_application_that_does_not_think_of_the_end_leaves_no_traceback(serve: Serve) -> None:
    service = serve(ENDING, TIDEGATE_DRAIN_DELAY="0")
    service.until_ready()
    with open_websocket(service, "/echo") as websocket:
        service.process.send_signal(signal.SIGTERM)
        assert read_to_the_end(websocket) == ([], 1012)
    assert "Traceback" not in service.stop()


def test_an_application_that_only_sends_can_await_the_drain(serve: Serve) -> None:
    service = serve(ENDING)
    service.until_ready()
    with open_websocket(service, "/ticker") as websocket:
        assert websocket.recv(timeout=5) == "tick"
        service.process.send_signal(signal.SIGTERM)
        said, code = read_to_the_end(websocket)
    assert (said[-1], code) == ("goodbye", 1012)
    assert len(said) > 10  # through the delay of a second, one each 50 ms
    assert "Traceback" not in service.stop()


def test_a_deaf_websocket_application_is_closed_with_1012_when_the_time_is_over(
    serve: Serve,
) -> None:
    service = serve(ENDING, **FAST)
    service.until_ready()
    with open_websocket(service, "/deaf") as websocket:
        assert websocket.recv(timeout=5) == "tick"
        service.process.send_signal(signal.SIGTERM)
        assert read_to_the_end(websocket)[1] == 1012
    assert "1 WebSocket application(s) did not end within the drain time-out" in service.stop()
    assert service.process.returncode == 0


def test_a_streaming_answer_that_ends_within_the_drain_time_out_is_whole(serve: Serve) -> None:
    service = serve(ENDING, TIDEGATE_DRAIN_DELAY="0")
    service.until_ready()
    with httpx.stream("GET", f"{service.url}/stream?seconds=2", timeout=10) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "0"
        service.process.send_signal(signal.SIGTERM)
        assert list(lines) == [str(number) for number in range(1, 40)]
    service.stop()
    assert service.process.returncode == 0


def test_what_telemetry_is_held_is_sent_at_the_end(serve: Serve) -> None:
    service = serve(ENDING, TIDEGATE_DRAIN_DELAY="0")
    service.until_ready()
    output = end(service)
    assert "the last span is sent within 4.5 s" in output
    assert "the last events could not be sent (OSError)" in output
    assert "secret-word" not in output


def test_nothing_that_hangs_at_the_end_outlives_the_grace_period(serve: Serve) -> None:
    service = serve("tests.service.apps:stubborn", **FAST)
    service.until_ready()
    started = time.monotonic()
    output = end(service)
    assert time.monotonic() - started < 0 + 1 + 10  # delay, time-out, and the chart's reserve
    assert "the application's own shutdown took too long and was cut off" in output
    assert "the last span is sent" in output
    for lost in ("logs", "events"):
        assert output.count(f"the last {lost} were not all sent in time") == 1


def test_a_start_that_hangs_does_not_hold_up_the_end(serve: Serve) -> None:
    service = serve(
        "tests.service.apps:waiting", TIDEGATE_DRAIN_DELAY="300", TIDEGATE_DRAIN_TIMEOUT="1"
    )
    service.until(lambda answer: answer.json()["status"] == "starting")
    end(service)


@dataclass
class Callers:
    """Clients with keep-alive that go where the endpoints say, and count what fails."""

    url: str
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    done: Event = field(default_factory=Event)

    def call(self) -> None:
        with httpx.Client(timeout=10) as client:
            while not self.done.wait(0.01):
                try:
                    client.get(f"{self.url}/pid").raise_for_status()
                    self.answered += 1
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_request_fails_while_processes_come_and_go(workers: str, serve: Serve) -> None:
    running = serve(ENDING, WEB_CONCURRENCY=workers)
    running.until_ready()
    callers = Callers(running.url)
    with ThreadPoolExecutor(10) as pool:
        for _ in range(10):
            pool.submit(callers.call)
        for _ in range(3):
            successor = serve(ENDING, WEB_CONCURRENCY=workers)
            successor.until_ready()
            running.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)  # it takes a while until everybody knows
            callers.url = successor.url
            running.stop()
            assert running.process.returncode == 0
            running = successor
        callers.done.set()
    assert callers.failures == []
    assert callers.answered > 100
