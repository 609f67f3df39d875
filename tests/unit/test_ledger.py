"""Requests that have ended: told late and many at a time, and each of them once."""

from __future__ import annotations

import gc
import json
import os
import threading
import time

from prometheus_client import CollectorRegistry

from tidegate.access import JsonAccessLog
from tidegate.context import RequestContext
from tidegate.ledger import Entry, Ledger
from tidegate.metrics import SharedHttpMetrics, SummedHttpMetrics
from tidegate.writer import Writer


def ended(requests: Ledger, method: str = "GET", route: str = "/orders") -> Entry:
    request = Entry("req-1", "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", False)
    request.kind = requests.kind(method, 200, route)
    request.ended = request.duration = 0.25
    request.received = request.sent = 0
    request.error_type = ""
    return request


def total(registry: CollectorRegistry, method: str = "GET", route: str = "/orders") -> float | None:
    labels = {"method": method, "status": "2xx", "handler": route}
    return registry.get_sample_value("http_requests_total", labels)


def test_a_scrape_counts_what_ended_a_moment_ago() -> None:
    registry = CollectorRegistry()
    requests = Ledger(SummedHttpMetrics(registry))
    for count in (1, 2, 3):
        requests.add(ended(requests))
        assert total(registry) == count


def test_many_are_told_of_though_nobody_asks() -> None:
    lines: list[bytes] = []
    requests = Ledger(None, JsonAccessLog(lambda data, _: lines.append(data)))
    while not lines:
        requests.add(ended(requests))
    told = [json.loads(line) for line in lines[0].splitlines()]
    assert len(told) == 64
    assert told[0]["http.route"] == "/orders"


def test_values_that_workers_share_are_counted_at_once() -> None:
    registry = CollectorRegistry()
    requests = Ledger(SharedHttpMetrics(registry))
    requests.add(ended(requests))
    assert total(registry) == 1, "with nobody to settle them: a killed worker settles nothing"


def test_a_line_for_people_is_written_while_its_request_is_the_current_one() -> None:
    class Console:
        def __init__(self) -> None:
            self.written: list[str] = []

        def describe(self, method: str, status: int, route: str) -> str:
            return f"{status} {method} {route}"

        def describe_websocket(self, code: int, route: str) -> str:
            return f"{code} WS {route}"

        def write(self, shared: str, request: RequestContext, duration: float, error: str) -> None:
            self.written.append(shared)

    console = Console()
    requests = Ledger(SummedHttpMetrics(CollectorRegistry()), console)
    requests.add(ended(requests))
    assert console.written == ["200 GET /orders"]


def test_verbs_that_somebody_invents_are_one_kind() -> None:
    registry = CollectorRegistry()
    requests = Ledger(SummedHttpMetrics(registry))
    kinds = {id(requests.kind(f"VERB{number}", 200, "/orders")) for number in range(100)}
    assert kinds == {id(requests.kind("_OTHER", 200, "/orders"))}


def test_whoever_settles_meanwhile_each_request_is_told_once() -> None:
    registry = CollectorRegistry()
    lines: list[bytes] = []
    requests = Ledger(
        SummedHttpMetrics(registry), JsonAccessLog(lambda data, _: lines.append(data))
    )
    over = threading.Event()

    def settle() -> None:
        while not over.is_set():
            requests.settle()

    threads = [threading.Thread(target=settle) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5000):
        requests.add(ended(requests))
    over.set()
    for thread in threads:
        thread.join()
    requests.settle()
    assert total(registry) == 5000
    assert b"".join(lines).count(b"\n") == 5000


def test_what_waits_is_told_though_its_application_is_gone() -> None:
    registry = CollectorRegistry()
    requests = Ledger(SummedHttpMetrics(registry))
    requests.add(ended(requests))
    del requests
    gc.collect()
    assert total(registry) == 1


def test_an_exemplar_has_the_time_at_which_its_request_ended() -> None:
    metrics = SummedHttpMetrics(CollectorRegistry())
    requests = Ledger(metrics)
    request = ended(requests)
    request.sampled = True
    request.ended = time.perf_counter() - 3600  # and is scraped now
    requests.add(request)
    exemplars = [
        sample.exemplar
        for family in metrics.collect()
        for sample in family.samples
        if sample.exemplar
    ]
    assert exemplars
    for each in exemplars:
        assert each.timestamp is not None
        assert abs(float(each.timestamp) - (time.time() - 3600)) < 1


def test_a_line_comes_before_those_that_are_written_after_it() -> None:
    reading, writing = os.pipe()
    writer = Writer(writing, lambda count: b"lost %d\n" % count)
    requests = Ledger(None, JsonAccessLog(writer.add), writer)
    requests.add(ended(requests))
    writer.write(b"later\n")
    assert writer.flush(10)
    first, second = os.read(reading, 4096).splitlines()
    assert json.loads(first)["message"] == "request"
    assert second == b"later"
    os.close(reading)
    os.close(writing)


def test_a_user_id_that_has_no_words_costs_no_other_request_its_line() -> None:
    class Wordless:
        def __str__(self) -> str:
            raise TypeError("no text")

    lines: list[bytes] = []
    requests = Ledger(None, JsonAccessLog(lambda data, _: lines.append(data)))
    for user_id in ("ann", Wordless(), "bob"):
        request = ended(requests)
        request.user_id = user_id  # type: ignore[assignment] # what nobody's types have checked
        requests.add(request)
    requests.settle()
    told = [json.loads(line)["user_id"] for line in lines[0].splitlines()]
    assert told == ["ann", "unprintable", "bob"]
