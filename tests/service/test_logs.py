"""One pipeline for every log line: JSON that joins to a request, and tells no secret."""

from __future__ import annotations

import asyncio
import json
import logging
import logging.config
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.config import LOGGING_CONFIG

from tests.migrate.conftest import clean_environment
from tests.service.conftest import free_ports
from tidegate import context, logs
from tidegate.access import ConsoleAccessLog, JsonAccessLog
from tidegate.context import RequestContext, bind_user
from tidegate.quiet import EXPORT, OncePerMinute
from tidegate.settings import Settings

CANARY = "c4n4ry-7f3a"
REQUEST = ("req-1", "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True)
log = logging.getLogger("app.orders")

Lines = Callable[[], list[dict[str, Any]]]
Install = Callable[..., Lines]


@pytest.fixture
def install(capfd: pytest.CaptureFixture[str]) -> Iterator[Install]:
    """Install the pipeline; what it returns reads the lines written since."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)

    def start(**values: Any) -> Lines:  # noqa: ANN401 - any setting
        writer = logs.install(Settings(**{"log_format": "json", **values}))
        assert writer

        def lines() -> list[dict[str, Any]]:
            assert writer.flush(timeout=10)
            return [json.loads(line) for line in capfd.readouterr().out.split("\n") if line]

        lines()
        return lines

    yield start
    logs.install(Settings(log_format="off"))
    logging.getLogger(EXPORT).removeFilter(logs._quiet)  # other tests count complaints as well
    root.setLevel(level)
    assert root.handlers == handlers
    structlog.reset_defaults()


@pytest.fixture
def request_context() -> Iterator[RequestContext]:
    """Run as if inside a request."""
    request = RequestContext(*REQUEST)
    token = context._current.set(request)
    yield request
    context._current.reset(token)


def fail(text: str = CANARY) -> None:
    try:
        raise KeyError(f"the cause {text}")
    except KeyError as cause:
        raise ValueError(text) from cause


def failure(text: str = CANARY) -> ValueError:
    try:
        fail(text)
    except ValueError as error:
        return error
    raise AssertionError


def test_stdlib_and_structlog_say_the_same_things(
    install: Install, request_context: RequestContext
) -> None:
    lines = install()
    bind_user("ann")
    log.info("order %d created", 5, extra={"total": 12.5})
    structlog.get_logger("app.orders").info("order %d created", 5, total=12.5)
    one, other = lines()
    timestamp = one.pop("timestamp")
    assert timestamp.endswith("Z")
    assert len(timestamp) == len("2026-11-21T16:34:00.123456Z")
    assert other.pop("timestamp") >= timestamp
    assert one == {
        "level": "info",
        "logger": "app.orders",
        "message": "order 5 created",
        "request_id": "req-1",
        "trace_id": REQUEST[1],
        "span_id": REQUEST[2],
        "user_id": "ann",
        "total": 12.5,
    }
    assert other == {**one, "logger": other["logger"]}


async def test_no_line_carries_the_ids_of_another_request(install: Install) -> None:
    lines = install()

    async def handle(number: int) -> None:
        context._current.set(RequestContext(f"req-{number}", "0" * 32, "0" * 16, False))
        if number % 2:
            bind_user(f"user-{number}")
        await asyncio.sleep(0)
        log.info("%d", number)
        await asyncio.to_thread(log.info, "%d", number)

    await asyncio.gather(*(handle(number) for number in range(20)))
    log.info("outside")
    *inside, outside = lines()
    assert len(inside) == 40
    for line in inside:
        assert line["request_id"] == f"req-{line['message']}"
        odd = int(line["message"]) % 2
        assert line.get("user_id") == (f"user-{line['message']}" if odd else None)
    assert not outside.keys() & {"request_id", "trace_id", "span_id", "user_id"}


def test_a_line_carries_the_id_of_the_span_that_runs(
    install: Install, request_context: RequestContext
) -> None:
    from opentelemetry import trace

    lines = install()
    span = trace.SpanContext(int(REQUEST[1], 16), 0x1234, False, trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(span)):
        log.info("inside")
    log.info("outside")
    inside, outside = lines()
    assert (inside["trace_id"], inside["span_id"]) == (REQUEST[1], "0000000000001234")
    assert (outside["trace_id"], outside["span_id"]) == REQUEST[1:3]


def log_in_every_way_that_people_quote_exceptions() -> None:
    events = structlog.get_logger("app")
    log.error("failed: %s", failure())
    log.error("failed", extra={"error": failure(), "errors": [failure()]})
    log.error(failure())
    try:
        fail()
    except ValueError as error:
        log.exception("failed: %s", error)
        log.error(f"failed: {error!r} from {error.__cause__}")
        log.error("failed", extra={"why": {"text": str(error)}})
        events.exception("failed", why=str(error), error=error)
        events.error("failed %s", error)
    log.error("failed", exc_info=failure())
    log.error(f"failed {CANARY}", exc_info=failure(), stack_info=True)
    log.error("failed", exc_info=ExceptionGroup(CANARY, [failure()]))
    log.error("%(error)s", {"error": failure()})
    log.error("failed: %s", failure(CANARY + "x" * 20_000))
    quoted = failure(f'no user "{CANARY}@example.org"\nin the table of users, {CANARY}')
    log.error(f"failed: {str(quoted)[:40]}", exc_info=quoted)
    log.error(str(quoted).splitlines()[0], exc_info=quoted)
    log.error(json.dumps({"e": str(quoted)}), exc_info=quoted)


def test_the_text_of_an_exception_is_in_no_line(install: Install) -> None:
    lines = install()
    log_in_every_way_that_people_quote_exceptions()
    written = lines()
    assert len(written) == 16
    assert CANARY not in json.dumps(written)
    assert "raise ValueError" not in json.dumps(written), "source code is not told either"
    described = written[8]["exception"]
    assert described["type"] == "ValueError"
    assert [frame["function"] for frame in described["stack"]] == ["failure", "fail"]
    assert described["stack"][0].keys() == {"file", "line", "function"}
    assert [cause["type"] for cause in described["causes"]] == ["KeyError"]
    assert written[10]["exception"]["exceptions"][0]["type"] == "ValueError"


class LongwindedlyNamedError(Exception):
    """So that its name alone is as much as is recognised of a text without its end."""


@pytest.mark.parametrize("error", [LongwindedlyNamedError(), LongwindedlyNamedError(CANARY)])
def test_the_type_of_an_exception_is_told_while_it_is_handled(
    install: Install, error: Exception
) -> None:
    lines = install()
    try:
        raise error
    except LongwindedlyNamedError as caught:
        log.error("it failed (%s)", type(caught).__name__)
        log.error("it failed: %r", caught)
    named, quoted = lines()
    assert named["message"] == "it failed (LongwindedlyNamedError)"
    assert CANARY not in quoted["message"]


def test_the_text_of_an_exception_is_told_to_who_asks_and_scrubbed(install: Install) -> None:
    lines = install(exception_text=True)
    log.error("failed", exc_info=failure(f"visible token={CANARY}"))
    [line] = lines()
    assert line["exception"]["message"] == "visible token=[scrubbed]"
    assert CANARY not in json.dumps(line)


def test_secrets_are_in_no_line(install: Install) -> None:
    lines = install(scrub_keys=("iban",))
    secrets = {"password": CANARY, "url": f"postgresql://u:{CANARY}@h/db", "iban": CANARY}
    log.info("GET /a?b=%s of https://%s@h", CANARY, CANARY, extra=secrets)
    log.info("%s %s", {"Cookie": f"a={CANARY}"}, httpx.URL(f"https://h/?q={CANARY}"))
    log.info({"event": "as a dict", "nested": [{"token": CANARY}]})
    structlog.get_logger().info("headers", headers=[(b"authorization", CANARY.encode())])
    written = lines()
    assert len(written) == 4
    assert CANARY not in json.dumps(written)
    assert written[2]["message"] == "as a dict"


def test_one_exception_is_written_once(install: Install) -> None:
    lines = install()
    error = failure()
    log.exception("the application's own words", exc_info=error)
    logging.getLogger("tidegate.error").error("unhandled", exc_info=error)
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error)
    group = ExceptionGroup("", [error])
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=group)
    assert [line["message"] for line in lines()] == ["the application's own words"]

    another = RuntimeError("made of it")
    another.__cause__ = error
    logging.getLogger("tidegate.error").error("unhandled", exc_info=another)
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=another)
    assert [line["message"] for line in lines()] == ["unhandled"]


def test_an_exception_made_once_and_raised_in_each_request_is_written_once_in_each(
    install: Install,
) -> None:
    lines = install()
    shared = ValueError("made by the module")

    def fail_in_a_request(number: int, *, caught: bool) -> None:
        token = context._current.set(RequestContext("", "0" * 32, f"{number:016x}", False))
        if caught:
            logging.getLogger("app").error("the application's own words", exc_info=shared)
        logging.getLogger("tidegate.error").error("unhandled", exc_info=shared)
        context._current.reset(token)
        logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=shared)

    fail_in_a_request(1, caught=True)
    fail_in_a_request(2, caught=False)
    fail_in_a_request(3, caught=False)
    assert [(line["message"], line["span_id"][-1]) for line in lines()] == [
        ("the application's own words", "1"),
        ("unhandled", "2"),
        ("unhandled", "3"),
    ]


def test_exporters_complain_once_a_minute() -> None:
    now = 0.0
    quiet = OncePerMinute(clock=lambda: now)

    def complain(name: str, level: int = logging.WARNING) -> logging.LogRecord | None:
        record = logging.LogRecord(name, level, "", 0, "cannot export", None, None)
        return record if quiet.filter(record) else None

    assert complain("opentelemetry.exporter")
    assert complain("urllib3.connectionpool"), "each has a minute of its own"
    assert not any(complain("opentelemetry.exporter") for _ in range(5))
    assert complain("opentelemetry.exporter", logging.INFO)
    assert all(complain("app") for _ in range(5))
    now = 59.9
    assert not complain("opentelemetry.exporter")
    now = 60.0
    record = complain("opentelemetry.exporter")
    assert record
    assert vars(record)["left_out"] == 6
    now = 120.0
    record = complain("opentelemetry.exporter")
    assert record
    assert "left_out" not in vars(record)


STRANGE = """
import logging
from tidegate import logs
from tidegate.settings import Settings

class Unprintable:
    def __str__(self):
        raise RuntimeError("no text")

logs.install(Settings())
log = logging.getLogger("app")
endless = []
endless.append(endless)
log.info("%d", "no number")
log.info("%s", Unprintable())
log.info("strange", extra={"x": Unprintable(), "big": 1 << 80, "set": {1}, "me": endless})
log.info("half a pair \\ud800", extra={"ratio": float("nan"), "big": 1 << 80})
log.info("own", extra={"level": "mine", "logger": 5, "exception": "no"})
"""


def test_what_cannot_be_written_is_still_news() -> None:
    run = subprocess.run(
        [sys.executable, "-c", STRANGE],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    one, two, strange, half, own = (
        json.loads(line, parse_constant=pytest.fail) for line in run.stdout.splitlines()
    )
    assert "could not be written (TypeError)" in one["message"]
    assert "could not be written (RuntimeError)" in two["message"]
    assert strange["x"] == "<Unprintable that cannot be printed>"
    assert strange["big"] == 1 << 80
    assert half["message"] == "half a pair \ud800"
    assert half["ratio"] is None
    assert (own["level"], own["level_"], own["exception_"]) == ("info", "mine", "no")


def test_a_huge_line_is_cut_before_it_costs_anything(install: Install) -> None:
    lines = install()
    huge = "x token=y " * 1_000_000
    started = time.process_time()
    log.info(huge)
    assert time.process_time() - started < 0.3
    log.error("rest", extra={"rows": ["y" * 1000] * 1000}, exc_info=failure())
    message, rest = lines()
    assert len(message["message"]) == 16 * 1024
    assert len(json.dumps(rest)) < 1000
    assert rest["message"] == "rest"
    assert rest["cut"].endswith("bytes")
    assert rest["exception"] == {"type": "ValueError"}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.uuids(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.dictionaries(st.text(), anything))
def test_any_event_is_one_line_of_json(
    install: Install, message: str, own: dict[str, object]
) -> None:
    lines = install()
    own.pop("event", None)
    structlog.get_logger().info(message, **{"x": 1, **own})
    [line] = lines()
    assert line["level"] == "info"


def test_installing_again_doubles_nothing_and_keeps_what_is_the_applications(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = logging.NullHandler()
    logging.getLogger().addHandler(theirs)
    logging.getLogger("uvicorn").addHandler(theirs)
    try:
        install()
        logging.config.dictConfig(LOGGING_CONFIG)  # as uvicorn.run(app) does afterwards
        logging.getLogger("uvicorn").addHandler(theirs)
        lines = install()
        log.info("once")
        structlog.get_logger().info("once, too", key="value")
        logging.getLogger("uvicorn.error").info("started")
        assert [line["message"] for line in lines()] == ["once", "once, too", "started"]
        assert caplog.messages == ["once", "once, too", "started"]
        assert theirs in logging.getLogger().handlers
        assert logging.getLogger("uvicorn").handlers == [theirs]
    finally:
        logging.getLogger().removeHandler(theirs)
        logging.getLogger("uvicorn").removeHandler(theirs)


def test_what_dictconfig_disabled_is_enabled_again(install: Install) -> None:
    lines = install()
    names = ("tidegate.error", "uvicorn.error")
    for name in names:
        logging.getLogger(name).disabled = True  # as disable_existing_loggers does
    lines = install()
    for name in names:
        logging.getLogger(name).error("told")
    assert [line["logger"] for line in lines()] == list(names)


def test_the_access_line_has_its_level_and_is_left_out_below_the_one_that_is_set() -> None:
    def write(level: str, status: int, error: str) -> list[str]:
        written: list[bytes] = []
        access = JsonAccessLog(lambda line, _: written.append(line), level)  # type: ignore[arg-type]
        request = RequestContext(*REQUEST)
        access.write(access.describe("GET", status, "/"), request, 0.1, error)
        access.write(access.describe_websocket(1006, "/"), request, 0.1, error)
        return [json.loads(line)["level"] for line in written]

    assert write("info", 200, "") == ["info", "info"]
    assert write("info", 500, "") == ["error", "info"]
    assert write("info", 200, "ValueError") == ["error", "error"], "it failed after its status"
    assert write("warning", 200, "") == []
    assert write("warning", 500, "") == ["error"]
    assert write("error", 200, "ValueError") == ["error", "error"]


def test_the_access_line_for_people_has_the_same_level(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install()
    access = ConsoleAccessLog()
    for shared, error in (
        (access.describe("GET", 200, "/"), ""),
        (access.describe("GET", 500, "/"), ""),
        (access.describe_websocket(1006, "/"), "ValueError"),
    ):
        access.write(shared, RequestContext(*REQUEST), 0.1, error)
    assert [record.levelname for record in caplog.records] == ["INFO", "ERROR", "ERROR"]


def test_levels_and_off_are_as_set(install: Install, capfd: pytest.CaptureFixture[str]) -> None:
    lines = install(log_level="warning")
    log.info("not")
    structlog.get_logger().info("not")
    log.warning("written")
    assert [line["message"] for line in lines()] == ["written"]
    lines = install(log_level="debug")
    structlog.get_logger().debug("written")
    assert [line["message"] for line in lines()] == ["written"]
    assert logs.install(Settings(log_format="off")) is None
    log.error("left to the application")
    assert lines() == []


def test_a_structlog_that_the_application_configured_is_left_alone_and_told_once(
    install: Install, capfd: pytest.CaptureFixture[str]
) -> None:
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    theirs = structlog.get_config()
    logs._say_structlog_is_apart.cache_clear()
    for _ in range(2):
        writer = logs.install(Settings(log_format="json"))
        assert writer
        assert writer.flush(timeout=10)
    assert capfd.readouterr().out.count("configures structlog itself") == 1
    assert structlog.get_config() == theirs
    structlog.configure(logger_factory=structlog.stdlib.LoggerFactory())
    lines = install()
    structlog.get_logger().info("through the standard library", a=1)
    assert lines()[0]["message"] == '{"a": 1, "event": "through the standard library"}'


# --- whole processes ---------------------------------------------------------------------------

APP = """
from fastapi import FastAPI
import structlog
from tidegate import logs
from tidegate.settings import Settings, read_settings

app = FastAPI()
logs.install(read_settings(Settings))

@app.get("/fail")
async def fail(token: str):
    structlog.get_logger("app").info("about to fail", url=f"https://h/?token={token}")
    raise ValueError(f"refused {token}")
"""


@pytest.fixture
def app_directory(tmp_path: Path) -> Path:
    (tmp_path / "failing.py").write_text(APP)
    return tmp_path


def serve_and_fail(command: list[str], directory: Path, port: int, **environment: str) -> str:
    """Serve the failing application, ask it once, end it; what it wrote to both streams."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=directory,
        env=clean_environment() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=0)) as client:
            while process.poll() is None:
                try:
                    answer = client.get(f"http://127.0.0.1:{port}/fail?token={CANARY}", timeout=30)
                except httpx.ConnectError:
                    time.sleep(0.05)
                    continue
                assert answer.status_code == 500
                break
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    return output


def test_uvicorns_own_lines_take_the_same_way(app_directory: Path) -> None:
    port, _ = free_ports()
    output = serve_and_fail(["uvicorn", "failing:app", "--port", str(port)], app_directory, port)
    lines = [json.loads(line) for line in output.splitlines()]
    assert CANARY not in output
    assert [line["message"] for line in lines if "exception" in line] == [
        "Exception in ASGI application\n"
    ]
    messages = [line["message"] for line in lines]
    assert "about to fail" in messages
    assert "Application startup complete." in messages
    assert not any("GET /fail" in message for message in messages), "the hook writes that line"
    assert not any("color_message" in line for line in lines)


def test_gunicorns_worker_takes_the_same_way(app_directory: Path) -> None:
    port, _ = free_ports()
    output = serve_and_fail(
        [
            *("gunicorn", "failing:app", "-k", "uvicorn_worker.UvicornWorker"),
            *("-b", f"127.0.0.1:{port}", "--no-control-socket"),
        ],
        app_directory,
        port,
    )
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert CANARY not in output
    assert len([line for line in lines if "exception" in line]) == 1
    assert "about to fail" in [line["message"] for line in lines]


def test_uvicorns_access_line_is_scrubbed_where_ours_is_off(app_directory: Path) -> None:
    port, _ = free_ports()
    output = serve_and_fail(
        ["uvicorn", "failing:app", "--port", str(port)],
        app_directory,
        port,
        TIDEGATE_ACCESS_LOG="false",
    )
    assert CANARY not in output
    assert "GET /fail?[scrubbed] HTTP/1.1" in output


def test_on_a_terminal_people_read_a_whole_traceback_without_secrets(app_directory: Path) -> None:
    port, _ = free_ports()
    output = serve_and_fail(
        ["uvicorn", "failing:app", "--port", str(port)],
        app_directory,
        port,
        TIDEGATE_LOG_FORMAT="console",
    )
    assert "about to fail" in output
    assert "https://h/?[scrubbed]" in output
    assert f"ValueError: refused {CANARY}" in output
    assert 'raise ValueError(f"refused {token}")' in output
    assert not any(line.startswith("{") for line in output.splitlines())


def test_the_format_follows_the_terminal() -> None:
    reader, terminal = os.openpty()
    script = (
        "from tidegate.logs import effective_format as f; from tidegate.settings import Settings;"
        "import sys; print(f(Settings()), f(Settings(log_format='json')), file=sys.stderr)"
    )
    for stdout, said in ((terminal, "console json"), (subprocess.DEVNULL, "json json")):
        run = subprocess.run(
            [sys.executable, "-c", script],
            env=clean_environment(),
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert run.stderr.strip() == said
    os.close(reader)
    os.close(terminal)


THREAD = """
import threading
from tidegate import logs
from tidegate.settings import Settings
logs.install(Settings(log_format="json"))
def fail():
    raise ValueError("c4n4ry-7f3a")
thread = threading.Thread(target=fail, name="worker")
thread.start()
thread.join()
"""


def test_an_exception_that_ends_a_thread_is_a_line_without_its_text() -> None:
    run = subprocess.run(
        [sys.executable, "-c", THREAD],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = map(json.loads, run.stdout.splitlines())
    assert line["message"] == "Unhandled exception in thread worker"
    assert line["exception"]["type"] == "ValueError"
    assert CANARY not in run.stdout + run.stderr


THEIR_OWN_LOGGING = """
import logging.config, sys, structlog, warnings
early = structlog.get_logger().bind(part="early")
from tidegate import logs
from tidegate.settings import Settings

logging.basicConfig()
logs.install(Settings(log_format="json"))
logging.config.dictConfig({
    "version": 1,
    "handlers": {
        "out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"},
        "err": {"class": "logging.StreamHandler"},
        "file": {"class": "logging.FileHandler", "filename": sys.argv[1]},
    },
    "root": {"handlers": ["out", "file"]},
    "loggers": {
        "app": {"handlers": ["err"], "propagate": False, "level": "INFO"},
        "uvicorn": {"handlers": ["err"], "propagate": False},
    },
})
logs.install(Settings(log_format="json"))  # as at the application's startup
logging.getLogger("root.ed").error("one token=c4n4ry-7f3a")
logging.getLogger("app").error("two token=c4n4ry-7f3a")
logging.getLogger("uvicorn.error").error("three token=c4n4ry-7f3a")
early.error("four %s", "token=c4n4ry-7f3a", cookie="c4n4ry-7f3a")
try:
    raise ValueError("c4n4ry-7f3a")
except ValueError:
    early.exception("five")
warnings.warn("six token=c4n4ry-7f3a")
raise RuntimeError("c4n4ry-7f3a")
"""


def test_nothing_is_written_past_the_pipeline_by_an_application_with_logging_of_its_own(
    tmp_path: Path,
) -> None:
    file = tmp_path / "their.log"
    run = subprocess.run(
        [sys.executable, "-c", THEIR_OWN_LOGGING, str(file)],
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert run.stderr == ""
    assert CANARY not in run.stdout
    written = [json.loads(line) for line in run.stdout.splitlines()]
    taken = [line["message"] for line in written if "are taken off" in line["message"]]
    assert len(taken) == 2
    assert "root, app" in taken[1]
    lines = [line for line in written if "are taken off" not in line["message"]]
    said = [line["message"].split()[0].rstrip(":") for line in lines]
    assert said[:5] == ["one", "two", "three", "four", "five"]
    assert "six token=[scrubbed]" in lines[5]["message"]
    assert lines[3]["part"] == lines[4]["part"] == "early"
    assert (lines[3]["logger"], lines[3]["level"]) == ("__main__", "error")
    assert lines[4]["exception"]["type"] == "ValueError"
    assert (lines[6]["level"], lines[6]["exception"]["type"]) == ("critical", "RuntimeError")
    assert CANARY in file.read_text(), "a file of theirs is theirs"


def test_importing_the_pipeline_imports_neither_structlog_nor_any_back_end() -> None:
    script = (
        "import sys, tidegate.logs, tidegate.sentry;"
        "print(sorted({'structlog', 'sentry_sdk', 'opentelemetry', 'fastapi'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
