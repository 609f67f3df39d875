"""Errors reach Sentry with their request's ids, without what a client sent, and cost nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.migrate.conftest import clean_environment
from tests.service.envelopes import Envelopes, envelopes
from tidegate import sentry
from tidegate.context import RequestContext
from tidegate.sentry import Sentry
from tidegate.settings import Settings, SettingsError

CANARY = "c4n4ry-7f3a"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def sink() -> Iterator[Envelopes]:
    with envelopes() as listening:
        yield listening


@pytest.fixture(autouse=True)
def _no_client_is_left() -> Iterator[None]:
    yield
    if "sentry_sdk" in sys.modules:
        import sentry_sdk

        sentry_sdk.get_client().close(timeout=0)
        sentry_sdk.get_global_scope().set_client(None)


def install(sink: Envelopes, **values: Any) -> Sentry:  # noqa: ANN401 - any setting
    installed = sentry.install(Settings(**values), {"SENTRY_DSN": sink.dsn})
    assert installed
    return installed


def request(user_id: str | None = None) -> RequestContext:
    context = RequestContext("req-1", TRACE, SPAN, True)
    context.user_id = user_id
    return context


def failure(text: str = CANARY) -> ValueError:
    password = CANARY  # noqa: F841 - a local variable that must not be told
    headers = {"authorization": CANARY}
    try:
        try:
            raise KeyError(f"the cause {text}")
        except KeyError as cause:
            raise ValueError(text, headers) from cause
    except ValueError as error:
        error.add_note(f"a note {text}")
        return error


def test_an_error_arrives_with_its_requests_ids(sink: Envelopes) -> None:
    installed = install(sink)
    installed.capture(failure(), request("ann"), "GET /orders/{order_id}")
    event = sink.event()
    assert event["contexts"]["trace"] == {"trace_id": TRACE, "span_id": SPAN}
    assert event["tags"] == {"request_id": "req-1"}
    assert event["transaction"] == "GET /orders/{order_id}"
    assert event["user"] == {"id": "ann"}
    assert event["level"] == "error"
    cause, error = event["exception"]["values"]
    assert (cause["type"], error["type"]) == ("KeyError", "ValueError")
    assert error["stacktrace"]["frames"][-1]["function"] == "failure"
    assert error["stacktrace"]["frames"][-1]["lineno"]


def test_nothing_that_a_client_sent_arrives(sink: Envelopes) -> None:
    installed = install(sink)
    installed.capture(failure(), request(), "GET /")
    group = ExceptionGroup(CANARY, [failure()])
    installed.capture(group, request(), "GET /")
    assert installed.flush(timeout=30)
    bodies = sink.bodies()
    assert len(bodies) == 2
    for body in bodies:
        event = json.loads(body.split(b"\n", 2)[2])
        assert CANARY.encode() not in body
        assert event.keys().isdisjoint({"request", "breadcrumbs", "user", "extra", "modules"})
        assert b'"vars"' not in body
        assert b"context_line" not in body


def test_the_text_arrives_scrubbed_where_it_is_asked_for(sink: Envelopes) -> None:
    installed = install(sink, exception_text=True)
    installed.capture(failure(f"visible token={CANARY}"), request(), "GET /")
    event = sink.event()
    assert "visible" in event["exception"]["values"][-1]["value"]
    assert CANARY not in json.dumps(event)


def test_the_same_exception_arrives_once(sink: Envelopes) -> None:
    installed = install(sink)
    error = failure()
    for each in (error, error, ExceptionGroup("", [error]), failure()):
        installed.capture(each, request(), "GET /")
    assert installed.flush(timeout=30)
    assert len(sink.bodies()) == 2


SCRIPT = """
import os, time
from tidegate import logs, sentry
from tidegate.context import RequestContext
from tidegate.settings import Settings

def capture(name):
    request = RequestContext(name, "0" * 32, "0" * 16, True)
    installed.capture(ValueError("c4n4ry-7f3a"), request, "GET /")

logs.install(Settings())
installed = sentry.install(Settings())
"""


def run(sink: Envelopes, script: str) -> str:
    """Run the script in a process of its own; what it wrote to stdout."""
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT + script],
        env=clean_environment() | {"SENTRY_DSN": sink.dsn},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    assert CANARY not in finished.stdout + finished.stderr
    return finished.stdout


def test_an_exception_made_once_arrives_for_each_request(sink: Envelopes) -> None:
    installed = install(sink)
    shared = failure()
    for span_id in (SPAN, SPAN, "c" * 16):
        installed.capture(shared, RequestContext("req-1", TRACE, span_id, True), "GET /")
    told = [sink.event()["contexts"]["trace"]["span_id"] for _ in range(2)]
    assert told == [SPAN, "c" * 16]
    assert installed.flush()


def test_a_sentry_that_stands_still_costs_a_request_nothing(sink: Envelopes) -> None:
    sink.let_go.clear()
    output = run(
        sink,
        """
capture("first")
installed.flush(2)  # the SDK is loaded, and one event hangs
slowest = 0
for number in range(1000):
    started = time.monotonic()
    capture(str(number))
    slowest = max(slowest, time.monotonic() - started)
flushed = installed.flush(0.01)
print("seen:", slowest, installed.dropped, flushed)
""",
    )
    assert len(sink.bodies()) <= 1
    # The SDK's own queue overflows while it is flushed, and a line may tell of it.
    (seen,) = [line for line in output.splitlines() if line.startswith("seen:")]
    _, slowest, dropped, flushed = seen.split()
    assert float(slowest) < 0.5
    assert int(dropped) > 800
    assert flushed == "False"


DOWN = """
for _ in range(5):
    capture("one")
installed.flush(30)
"""


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 429 No\r\ncontent-length: 0\r\nretry-after: 60\r\n\r\n",
        b"\x00\xff garbage",
        b"",
        None,
    ],
    ids=["broken", "too busy", "garbage", "silent", "down"],
)
def test_a_sentry_that_takes_nothing_is_complained_about_once_a_minute(
    sink: Envelopes, answer: bytes | None
) -> None:
    if answer is None:
        sink.server.server_close()
    else:
        sink.answer = answer
    lines = [json.loads(line) for line in run(sink, DOWN).splitlines()]
    complaints = [line for line in lines if line["logger"] == "tidegate.export"]
    assert len(complaints) == 1
    assert complaints[0]["message"].startswith("Sentry did not take an event")
    assert len(lines) == 1


@pytest.mark.parametrize(
    "dsn",
    [
        "secretkey",
        "https://sentry.io/1",
        "https://secretkey@sentry.io/",
        "https://secretkey@sentry.io/name",
        "ftp://secretkey@sentry.io/1",
        "https://secretkey@/1",
        "https://secretkey@host:port/1",
        "https://secretkey@[::1/1",
    ],
)
def test_a_dsn_that_is_none_is_named_without_its_key(dsn: str) -> None:
    with pytest.raises(SettingsError) as refused:
        sentry.install(Settings(), {"SENTRY_DSN": dsn})
    assert str(refused.value).startswith("SENTRY_DSN")
    assert "https://<key>@<host>/<project number>" in str(refused.value)
    assert "secretkey" not in str(refused.value)
    assert refused.value.__context__ is None or refused.value.__suppress_context__


@pytest.mark.parametrize("dsn", ["https://k@o1.ingest.sentry.io/1", "http://k:s@[::1]:9000/a/2"])
def test_a_dsn_is_accepted_with_any_host_and_path(dsn: str) -> None:
    assert sentry.install(Settings(), {"SENTRY_DSN": dsn})


def test_without_a_dsn_there_is_nothing() -> None:
    assert sentry.install(Settings(), {}) is None
    assert sentry.install(Settings(), {"SENTRY_DSN": " "}) is None


def test_an_sdk_that_the_application_imported_works_from_the_start(sink: Envelopes) -> None:
    import sentry_sdk

    assert not sentry_sdk.get_client().is_active()
    install(sink)
    sentry_sdk.set_tag("token", CANARY)
    sentry_sdk.add_breadcrumb(message=CANARY)
    sentry_sdk.set_user({"id": "ann", "email": CANARY})
    sentry_sdk.capture_message(f"by hand, password={CANARY}")
    event = sink.event()
    assert event["message"] == "by hand, password=[scrubbed]"
    assert event["user"] == {"id": "ann"}
    assert CANARY not in json.dumps(event)
    sentry_sdk.get_isolation_scope().clear()


def test_an_sdk_that_the_application_initialised_stays_and_is_used(
    sink: Envelopes, caplog: pytest.LogCaptureFixture
) -> None:
    import sentry_sdk

    with envelopes() as theirs:
        sentry_sdk.init(dsn=theirs.dsn, default_integrations=False, release="their-release")
        client = sentry_sdk.get_client()
        sentry._say_it_is_theirs.cache_clear()
        installed = install(sink)
        installed.capture(failure(), request(), "GET /")
        event = theirs.event()
        installed.capture(failure(), request(), "GET /")
        assert installed.flush(timeout=30)
        assert sentry_sdk.get_client() is client
        assert event["release"] == "their-release"
        assert event["contexts"]["trace"]["trace_id"] == TRACE
        assert CANARY not in json.dumps(event), "what we send is as clean as ever"
        assert sink.bodies() == []
        assert caplog.text.count("initialises sentry_sdk itself") == 1


def test_an_sdk_whose_own_integration_captures_is_not_sent_the_error_twice() -> None:
    import sentry_sdk
    from sentry_sdk.integrations.starlette import StarletteIntegration

    with envelopes() as theirs:
        sentry_sdk.init(
            dsn=theirs.dsn,
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[StarletteIntegration()],
        )
        installed = install(theirs)
        installed.capture(failure(), request(), "GET /")
        assert installed.flush(timeout=30)
        assert theirs.bodies() == []


def test_nothing_is_loaded_or_started_before_the_first_error(sink: Envelopes) -> None:
    output = run(
        sink,
        """
import sys, threading
print("sentry_sdk" in sys.modules, threading.active_count())
capture("first")
print(installed.flush(30), "sentry_sdk" in sys.modules)
""",
    )
    assert output.split() == ["False", "1", "True", "True"]
    assert sink.event()["exception"]["values"][0]["type"] == "ValueError"


def test_a_forked_worker_sends_its_own_errors(sink: Envelopes) -> None:
    run(
        sink,
        """
capture("parent")
assert installed.flush(30)
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
else:
    capture("child")
    os._exit(not installed.flush(30))
""",
    )
    assert [sink.event()["tags"]["request_id"] for _ in range(2)] == ["parent", "child"]


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sentry_sdk", raising=False)
    monkeypatch.setattr(sentry, "find_spec", lambda _name: None)
    with pytest.raises(SettingsError, match=r"install tidegate\[sentry\]"):
        sentry.install(Settings(), {"SENTRY_DSN": "https://k@h/1"})


def test_errors_from_many_threads_each_arrive(sink: Envelopes) -> None:
    installed = install(sink)
    threads = [
        threading.Thread(target=installed.capture, args=(failure(), request(), f"GET /{number}"))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert installed.flush(timeout=30)
    assert {sink.event()["transaction"] for _ in range(8)} == {f"GET /{n}" for n in range(8)}
