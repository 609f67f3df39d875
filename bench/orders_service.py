"""The Orders service as it is measured: migrated, seeded, and served with all hooks."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.processes import ROOT, BenchError, Child, answers, free_ports, row_environment
from bench.rows import FULL, chosen
from bench.setting import Setting
from tests.cluster.shopping import ADMIN


class OrdersService(Child):
    """`tidegate serve orders.main:app`, hooks as most goals have them."""

    def __init__(self, environment: Mapping[str, str], setting: Setting) -> None:
        (full,) = (row for row in chosen([FULL]) if row.name == FULL)
        self.port, admin = free_ports(2)
        own = {
            "TIDEGATE_HOST": "127.0.0.1",
            "TIDEGATE_PORT": str(self.port),
            "TIDEGATE_ADMIN_PORT": str(admin),
        }
        command = [sys.executable, "-m", "tidegate.cli", "serve", "orders.main:app"]
        hooks = row_environment(full, setting.sink.url)
        super().__init__("orders", command, {**environment, **hooks, **own}, setting.server_core)

    def answers(self) -> bool:
        """Whether it takes requests."""
        return answers(self.port, with_any=True)


def prepare(url: str, folder: Path) -> dict[str, str]:
    """Migrate a database; return the environment in which the service uses it.

    Raises:
        BenchError: a migration failed.
    """
    manifest = str(folder / "manifest.json")
    environment = {
        "DATABASE_URL": url,
        "ALEMBIC_CONFIG": str(ROOT / "migrations-job" / "orders" / "alembic.ini"),
        "TIDEGATE_MANIFEST": manifest,
        "APP_JWT_SECRET": secrets.token_hex(32),
        "APP_ACCESS_TOKEN_SECONDS": "86400",
    }
    for command in (["manifest", "--output", manifest], ["up"]):
        _run(["tidegate.cli", "migrate", *command], environment)
    return environment


def seed(environment: Mapping[str, str]) -> str:
    """Make the admin; return the password.

    Raises:
        BenchError: it could not be made.
    """
    return _run(["orders", "seed", "--admin", ADMIN], environment).strip()


def _run(module: Sequence[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *module],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"{' '.join(module)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout
