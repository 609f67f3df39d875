"""`make run`: the reference service alone, on an embedded PostgreSQL unless told otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from tests.postgres import embedded_postgres

ROOT = Path(__file__).resolve().parents[1]
ALEMBIC = ROOT / "migrations-job" / "orders" / "alembic.ini"


def main(state: Path = ROOT / ".tidegate") -> int:
    """Start the database, migrate, serve; Ctrl-C stops the service, then the database."""
    environment = dict(os.environ)
    state.mkdir(exist_ok=True)
    with ExitStack() as stack:
        if not environment.get("DATABASE_URL"):
            data = state / "postgres"
            print(f"starting PostgreSQL (its data stays in {data})", flush=True)
            environment["DATABASE_URL"] = stack.enter_context(embedded_postgres(data))
        manifest = state / "manifest.json"
        environment.setdefault("TIDEGATE_MANIFEST", str(manifest))
        environment.setdefault("ALEMBIC_CONFIG", str(ALEMBIC))
        environment.setdefault("TIDEGATE_CONNECT_TIMEOUT", "10")
        for command in (["manifest", "--output", str(manifest)], ["up"]):
            code = subprocess.call([*_tidegate(), "migrate", *command], env=environment)
            if code:
                return code
        return _serve(environment)


def _serve(environment: dict[str, str]) -> int:
    server = subprocess.Popen([*_tidegate(), "serve", "orders.main:app"], env=environment)
    # The terminal sends Ctrl-C to the service as well: here it only means waiting for it.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    if _until_ready(server, environment.get("TIDEGATE_ADMIN_PORT", "9000")):
        _greet(environment)
    return server.wait()


def _until_ready(server: subprocess.Popen[bytes], admin_port: str) -> bool:
    url = f"http://127.0.0.1:{admin_port}/health/ready"
    deadline = time.monotonic() + 30
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = error
        time.sleep(0.1)
    if server.poll() is None:
        print(f"not ready after 30 s ({reason}); see {url}", file=sys.stderr, flush=True)
    return False


def _greet(environment: dict[str, str]) -> None:
    service = f"http://127.0.0.1:{environment.get('TIDEGATE_PORT', '8000')}"
    admin = f"http://127.0.0.1:{environment.get('TIDEGATE_ADMIN_PORT', '9000')}"
    print(
        f"\nready: {service}/api/docs\n"
        f"       {admin}/health/ready and {admin}/metrics\n"
        "Ctrl-C stops the service and the database; the data stays.\n",
        flush=True,
    )


def _tidegate() -> list[str]:
    return [sys.executable, "-m", "tidegate.cli"]


if __name__ == "__main__":
    raise SystemExit(main())
