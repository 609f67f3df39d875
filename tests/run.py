"""`make run`: the reference service and its worker, on an embedded PostgreSQL or on yours."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.cluster.processes import end_as_by_ctrl_c
from tests.cluster.shopping import ADMIN, make_key
from tests.postgres import EmbeddedPostgresError, embedded_postgres
from tidegate.ports import bind
from tidegate.settings import Settings, SettingsError, read_settings

ROOT = Path(__file__).resolve().parents[1]
ALEMBIC = ROOT / "migrations-job" / "orders" / "alembic.ini"


class BusyError(Exception):
    """Another `make run` uses the same data."""


def main(state: Path = ROOT / ".tidegate") -> int:
    """Start the database, migrate, serve and work; Ctrl-C stops both, then the database."""
    end_as_by_ctrl_c()  # until the service runs: the database ends with it
    os.environ.setdefault("TIDEGATE_HOST", "127.0.0.1")
    try:
        settings = read_settings(Settings)
        for port, name in ((settings.port, "PORT"), (settings.admin_port, "ADMIN_PORT")):
            with bind(settings.host, port, name) as listener:
                # 0 has become the one that the kernel chose: the service is to take the same.
                os.environ[f"TIDEGATE_{name}"] = str(listener.getsockname()[1])
        settings = read_settings(Settings)
        with ExitStack() as stack:
            return _run(settings, state, stack)
    except (BusyError, EmbeddedPostgresError, SettingsError) as error:
        print(f"make run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _run(settings: Settings, state: Path, stack: ExitStack) -> int:
    environment = dict(os.environ)
    state.mkdir(exist_ok=True)
    ours = not environment.get("DATABASE_URL")
    if ours:
        stack.enter_context(_alone(state / "lock"))
        data = state / "postgres"
        print(f"starting PostgreSQL (its data stays in {data})", flush=True)
        environment["DATABASE_URL"] = stack.enter_context(embedded_postgres(data))
    manifest = state / "manifest.json"
    environment.setdefault("TIDEGATE_MANIFEST", str(manifest))
    environment.setdefault("ALEMBIC_CONFIG", str(ALEMBIC))
    environment.setdefault("TIDEGATE_CONNECT_TIMEOUT", "10")
    environment.setdefault("APP_ENV", "development")
    if not environment.get("APP_FILES_BUCKET"):
        environment.setdefault("APP_FILES_DIRECTORY", str(state / "files"))
    for command in (["manifest", "--output", str(manifest)], ["up"]):
        code = subprocess.call([*_tidegate(), "migrate", *command], env=environment)
        if code:
            return code
    return _serve(settings, environment, _seeded if ours else _unseeded)


def _serve(
    settings: Settings, environment: dict[str, str], how_to_begin: Callable[..., str]
) -> int:
    server = subprocess.Popen([*_tidegate(), "serve", "orders.main:app"], env=environment)
    with bind(settings.host, 0, "ADMIN_PORT") as listener:
        worker_port = listener.getsockname()[1]
    worker = subprocess.Popen(
        [sys.executable, "-m", "orders", "worker"],
        env=environment | {"TIDEGATE_ADMIN_PORT": str(worker_port)},
    )
    # The terminal sends Ctrl-C to both as well: here it only means waiting for them.
    signal.signal(signal.SIGINT, lambda *_: None)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:
            signal.signal(ending, lambda *_: server.terminate())
    if _until_ready(server, settings.admin_port):
        service = f"http://127.0.0.1:{settings.port}"
        admin = f"http://127.0.0.1:{settings.admin_port}"
        print(
            f"\nready: {service}/api/docs\n"
            f"       {admin}/health/ready and {admin}/metrics\n"
            f"       the worker: http://127.0.0.1:{worker_port}/health/ready and /metrics\n"
            f"{how_to_begin(service, environment)}\n"
            "Ctrl-C stops the service, the worker and the database; the data stays.\n",
            flush=True,
        )
    code = server.wait()
    worker.terminate()
    worker.wait()
    return code


def _seeded(service: str, environment: dict[str, str]) -> str:
    """Make an admin in the database that is ours, with a new password at each start."""
    seed = [sys.executable, "-m", "orders", "seed", "--admin", ADMIN]
    try:
        password = subprocess.check_output(
            seed, env=environment, text=True, stderr=subprocess.DEVNULL
        ).strip()
        key = make_key(service, password)
    except (OSError, subprocess.CalledProcessError):  # by Ctrl-C, for one
        return _unseeded(service, environment)
    return f"""
Sign in as {ADMIN} with the password {password}, or use its API key:

  export KEY={key}
  curl -s {service}/api/v1/products -H "x-api-key: $KEY" -H 'content-type: application/json' \\
    -d '{{"sku": "tea", "name": "Tea", "price_cents": 450, "stock": 10}}'
"""


def _unseeded(_: str, __: dict[str, str]) -> str:
    return "`python -m orders seed --admin EMAIL` makes an admin, who can fill the catalogue."


def _until_ready(server: subprocess.Popen[bytes], admin_port: int) -> bool:
    url = f"http://127.0.0.1:{admin_port}/health/ready"
    reason: Exception | str = "it did not answer"
    deadline = time.monotonic() + 30
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except OSError as error:
            reason = error
        time.sleep(0.1)
    if server.poll() is None:
        print(f"not ready after 30 s ({reason}); see {url}", file=sys.stderr, flush=True)
    return False


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the data for this process; the kernel lets go of it should the process be killed."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"another `make run` uses {path.parent}; end it, or set DATABASE_URL"
            ) from None
        yield


def _tidegate() -> list[str]:
    return [sys.executable, "-m", "tidegate.cli"]


if __name__ == "__main__":
    raise SystemExit(main())
