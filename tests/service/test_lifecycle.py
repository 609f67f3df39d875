"""A process's life: start, readiness, drain, end; and the words it fails with."""

from __future__ import annotations

import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.migrate.project import AlembicProject
from tests.revisions import HEAD, NEXT, SHIPPED
from tests.service.conftest import Serve, Service, migrate


def test_a_migrated_database_makes_the_service_ready_live_and_measured(
    serve: Serve, migrated_url: str
) -> None:
    service = serve(DATABASE_URL=migrated_url)
    ready = service.until(lambda answer: answer.json()["status"] == "ok")
    checks = ready.json()["checks"]
    assert {name: check["status"] for name, check in checks.items()} == {
        "database": "ok",
        "events": "ok",
        "schema": "ok",
    }
    assert all(0 < check["seconds"] < 2 for check in checks.values())
    assert httpx.get(f"{service.admin}/health/live").json() == {"status": "ok"}
    assert httpx.get(f"{service.admin}/health/startup").status_code == 200
    assert httpx.get(f"{service.url}/api/v1/products").json() == []
    metrics = httpx.get(f"{service.admin}/metrics").text
    assert (
        'http_requests_total{handler="/api/v1/products",method="GET",status="2xx"} 1.0' in metrics
    )
    assert 'tidegate_schema_verdict{verdict="current"} 1.0' in metrics
    for path in ("/metrics", "/health/ready"):  # the admin port only
        assert httpx.get(f"{service.url}{path}").status_code == 404


def test_an_unmigrated_database_keeps_a_new_pod_out_and_names_the_revisions(
    serve: Serve, database_url: str, orders_alembic: Path
) -> None:
    service = serve(DATABASE_URL=database_url)
    unready = service.until(lambda answer: "schema" in answer.text)
    assert unready.status_code == 503
    checks = unready.json()["checks"]
    assert checks["database"]["status"] == "ok"
    assert checks["schema"]["status"] == "failed"
    assert checks["schema"]["reason"] == (
        f"behind: the database lacks {', '.join(SHIPPED)}; "
        "run `tidegate migrate up` with this image"
    )
    assert httpx.get(f"{service.admin}/health/startup").status_code == 503
    assert httpx.get(f"{service.admin}/health/live").status_code == 200
    migrate(database_url, orders_alembic)
    service.until_ready()


@pytest.mark.parametrize(("phase", "may_start"), [("expand", True), ("contract", False)])
def test_a_newer_schema_lets_an_older_image_start_only_if_it_kept_it_working(
    phase: str,
    may_start: bool,
    serve: Serve,
    migrated_url: str,
    orders_alembic: Path,
    tmp_path: Path,
) -> None:
    running = serve(DATABASE_URL=migrated_url, TIDEGATE_CHECK_CACHE="0")
    running.until_ready()
    newer = AlembicProject(tmp_path / "newer")
    for name in SHIPPED:
        (source,) = (orders_alembic.parent / "versions").glob(f"{name}_*.py")
        (newer.config.parent / "versions" / source.name).write_text(source.read_text())
    newer.revision(NEXT, HEAD, phase=phase)
    command = ["--phase", "all", "--nobody-runs-older"] if phase == "contract" else []
    migrate(migrated_url, newer.config, *command)
    starting = serve(DATABASE_URL=migrated_url)
    if may_start:
        starting.until_ready()
    else:
        unready = starting.until(lambda answer: "schema" in answer.text)
        assert unready.status_code == 503
        assert unready.json()["checks"]["schema"]["reason"] == (
            f"ahead-incompatible: the database holds unshipped {NEXT}; "
            "release an image that ships it"
        )
    # What was ready once stays ready: a changed verdict is for people and metrics.
    assert httpx.get(f"{running.admin}/health/ready").status_code == 200
    verdict = "ahead-compatible" if may_start else "ahead-incompatible"
    metrics = httpx.get(f"{running.admin}/metrics").text
    assert f'tidegate_schema_verdict{{verdict="{verdict}"}} 1.0' in metrics


def test_a_history_row_that_nobody_understands_makes_its_revision_unknown(
    serve: Serve, migrated_url: str
) -> None:
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO tidegate_schema_history SELECT %s, 'shrink', %s, now(), 0, '', '' ",
            (NEXT, [HEAD]),
        )
        connection.execute("UPDATE alembic_version SET version_num = %s", (NEXT,))
    service = serve(DATABASE_URL=migrated_url)
    unready = service.until(lambda answer: "schema" in answer.text)
    assert unready.json()["checks"]["schema"]["reason"] == (
        f"unknown: the database holds unshipped {NEXT}; release an image that ships it"
    )


def test_a_version_table_that_cannot_be_read_keeps_out_a_new_pod_but_not_a_ready_one(
    serve: Serve, migrated_url: str
) -> None:
    running = serve(DATABASE_URL=migrated_url, TIDEGATE_CHECK_CACHE="0")
    running.until_ready()
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE alembic_version RENAME COLUMN version_num TO gone")
    starting = serve(DATABASE_URL=migrated_url)
    unready = starting.until(lambda answer: "schema" in answer.text)
    assert "unknown: the version and history tables cannot be read" in unready.text
    assert httpx.get(f"{running.admin}/health/ready").status_code == 200


def test_a_version_table_that_is_locked_leaves_a_ready_pod_alone(
    serve: Serve, migrated_url: str
) -> None:
    service = serve(DATABASE_URL=migrated_url, TIDEGATE_CHECK_CACHE="0")
    service.until_ready()
    with psycopg.connect(migrated_url) as connection:
        connection.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
        assert httpx.get(f"{service.admin}/health/ready", timeout=10).status_code == 200
        metrics = httpx.get(f"{service.admin}/metrics").text
        assert 'tidegate_schema_verdict{verdict="unknown"} 1.0' in metrics


def test_sigterm_during_the_start_ends_the_process_at_once(serve: Serve) -> None:
    service = serve("tests.service.apps:slow")
    time.sleep(0.3)  # the interpreter is up, the server not yet
    service.process.send_signal(signal.SIGTERM)
    service.stop()
    assert service.process.returncode in {143, -signal.SIGTERM, 0}


def test_a_database_that_closes_is_named_and_comes_back(
    serve: Serve, migrated_url: str, postgres: str
) -> None:
    service = serve(DATABASE_URL=migrated_url)
    service.until_ready()
    name = migrated_url.partition("@/")[2].partition("?")[0]
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false".encode())
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        _is_away(service)
        connection.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true".encode())
    service.until_ready()


def test_a_server_that_does_not_run_is_named_and_no_traceback_reaches_the_client(
    serve: Serve,
) -> None:
    service = serve(DATABASE_URL="postgresql://orders:secret-word@127.0.0.1:1/orders")
    _is_away(service)
    service.process.terminate()
    assert "secret-word" not in service.stop()


def _is_away(service: Service) -> None:
    unready = service.until(lambda answer: "database" in answer.text and answer.status_code == 503)
    assert unready.json()["checks"]["database"]["status"] == "failed"
    refused = httpx.get(f"{service.url}/api/v1/products")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert refused.json()["detail"] == "the database does not answer"
    assert httpx.get(f"{service.admin}/health/live").status_code == 200


def test_through_the_drain_delay_every_new_connection_is_answered_and_told_to_close(
    serve: Serve, migrated_url: str
) -> None:
    service = serve(DATABASE_URL=migrated_url, TIDEGATE_DRAIN_DELAY="3")
    service.until_ready()

    def ask() -> httpx.Response:
        return httpx.get(f"{service.url}/api/v1/products", timeout=10)

    kept = httpx.Client(base_url=service.url, timeout=10)
    assert "connection" not in kept.get("/api/v1/products").headers
    service.process.send_signal(signal.SIGTERM)
    until = time.monotonic() + 2
    draining = service.until(lambda answer: answer.json()["status"] == "draining")
    assert draining.status_code == 503
    # A connection from before SIGTERM gets its answer, and is closed with it.
    assert kept.get("/api/v1/products").headers["connection"] == "close"
    kept.close()
    with ThreadPoolExecutor(4) as pool:
        while time.monotonic() < until:
            for answer in [pool.submit(ask) for _ in range(4)]:
                assert answer.result().status_code == 200
                assert answer.result().headers["connection"] == "close"
    service.stop()
    assert service.process.returncode == 0


def test_a_request_that_outlives_the_drain_time_out_is_cut_and_the_exit_code_stays_0(
    serve: Serve,
) -> None:
    service = serve("tests.service.apps:slow", TIDEGATE_DRAIN_DELAY="0", TIDEGATE_DRAIN_TIMEOUT="1")
    service.until_ready()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(httpx.get, f"{service.url}/slow?seconds=120", timeout=120)
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        output = service.stop()
    assert "timeout graceful shutdown exceeded" in output
    assert service.process.returncode == 0


def test_a_second_signal_does_not_wait_for_the_drain_delay(serve: Serve) -> None:
    service = serve("tests.service.apps:slow", TIDEGATE_DRAIN_DELAY="300")
    service.until_ready()
    service.process.send_signal(signal.SIGTERM)
    service.until(lambda answer: answer.json()["status"] == "draining")
    service.process.send_signal(signal.SIGTERM)
    service.stop()
    assert service.process.returncode == 0


def test_a_request_in_flight_at_sigterm_is_finished(serve: Serve) -> None:
    service = serve("tests.service.apps:slow", TIDEGATE_DRAIN_DELAY="0")
    service.until_ready()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.get, f"{service.url}/slow?seconds=1.5")
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        assert answer.result().json() == {"answer": "whole"}
    service.stop()
    assert service.process.returncode == 0


def test_liveness_notices_a_stuck_event_loop(serve: Serve) -> None:
    service = serve("tests.service.apps:slow")
    service.until_ready()
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(httpx.get, f"{service.url}/stuck?seconds=3", timeout=10)
        time.sleep(0.3)
        stuck = httpx.get(f"{service.admin}/health/live", timeout=10)
        assert (stuck.status_code, stuck.json()["status"]) == (503, "stuck")
        late.result()
    assert httpx.get(f"{service.admin}/health/live").status_code == 200


@pytest.mark.parametrize(
    ("target", "environment", "words"),
    [
        ("orders.main:app", {}, "DATABASE_URL is not set"),
        ("orders.main:app", {"DATABASE_URL": "mysql://x"}, "DATABASE_URL: write it as postgres"),
        (
            "orders.main:app",
            {"DATABASE_URL": "postgresql://u:secret-word@h/d?application_name=orders"},
            "DATABASE_URL: asyncpg does not take the option application_name",
        ),
        (
            "orders.main:app",
            {"DATABASE_URL": "postgresql://u:secret-word@h/d", "APP_DATABASE_POOL_SIZE": "many"},
            "APP_DATABASE_POOL_SIZE: Input should be a valid integer",
        ),
        ("tests.service.apps:slow", {"TIDEGATE_PORT": "70000"}, "TIDEGATE_PORT: Input should be"),
        ("tests.service.apps:slow", {"TIDEGATE_DRAIN_DELAY": "-1"}, "TIDEGATE_DRAIN_DELAY: Input"),
        (
            "tests.service.apps:slow",
            {"TIDEGATE_PORT": "18123", "TIDEGATE_ADMIN_PORT": "18123"},
            "TIDEGATE_PORT and TIDEGATE_ADMIN_PORT are both 18123; they must differ",
        ),
        (
            "orders.main:app",
            {"DATABASE_URL": "postgresql://u@h/d", "TIDEGATE_MANIFEST": "/none.json"},
            "TIDEGATE_MANIFEST: /none.json: [Errno 2] No such file",
        ),
        ("tests.service.apps:slow", {"TIDEGATE_DRAIN_DELAY": "inf"}, "TIDEGATE_DRAIN_DELAY: Input"),
        ("tests.service.apps:slow", {"TIDEGATE_LOG_LEVEL": "loud"}, "LOG_LEVEL: Input should be '"),
        (
            "tests.service.apps:slow",
            {"TIDEGATE_LOG_FORMAT": "xml"},
            "LOG_FORMAT: Input should be '",
        ),
        ("tests.service.apps:slow", {"TIDEGATE_CHECK_CACHE": "-1"}, "TIDEGATE_CHECK_CACHE: Input"),
        ("tests.service.apps:slow", {"TIDEGATE_HOST": "999.1.1.1"}, "TIDEGATE_HOST: nothing can"),
        ("tests.service.apps:bare", {}, "no FastAPI application with Tidegate(app)"),
        ("tests.service.nowhere:app", {}, 'Could not import module "tests.service.nowhere"'),
    ],
)
def test_what_cannot_be_served_says_why_and_exits_2(
    target: str, environment: dict[str, str], words: str, serve: Serve
) -> None:
    service = serve(target, **environment)
    output = service.stop()
    assert words in output
    assert service.process.returncode == 2
    assert "Traceback" not in output
    assert "secret-word" not in output


def test_a_misspelt_variable_is_named_once_with_the_one_that_is_meant(serve: Serve) -> None:
    service = serve(
        "tests.service.apps:slow", TIDEGATE_DRAIN_DELY="5", TIDEGATE_CONNECT_TIMEOUT="10"
    )
    service.until_ready()
    service.process.terminate()
    output = service.stop()
    assert output.count("TIDEGATE_DRAIN_DELY is no setting") == 1
    assert "is TIDEGATE_DRAIN_DELAY meant?" in output
    assert "TIDEGATE_CONNECT_TIMEOUT" not in output  # the runner's


@pytest.mark.parametrize("setting", ["TIDEGATE_PORT", "TIDEGATE_ADMIN_PORT"])
def test_a_port_in_use_is_named_with_the_setting_that_moves_it(setting: str, serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = serve("tests.service.apps:slow", **{setting: str(port)})
        output = service.stop()
    assert service.process.returncode == 2
    assert f"port {port} cannot be opened (Address already in use)" in output
    assert f"set {setting} to another one" in output
