"""Golden files: what the API server says goes in, the status comes out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from tidegate_operator.models import Deployment, Gate, Job, newest_job, read_attempt
from tidegate_operator.observe import observe

DATA = Path(__file__).parent / "data"
NAMES = sorted(path.stem for path in (DATA / "input").glob("*.yaml"))
NOW = datetime(2026, 11, 20, 10, 5, tzinfo=UTC)


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DATA / "input" / f"{name}.yaml").read_text())
    return found


def expected(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DATA / "output" / f"{name}.yaml").read_text())
    return found


def status_of(given: dict[str, Any], now: datetime = NOW) -> dict[str, Any]:
    """Do with the answers of an API server what ``Gates`` does."""
    deployment = given.get("deployment")
    return observe(
        Gate.from_json(given["gate"]),
        Deployment.from_json(deployment) if deployment else None,
        newest_job(Job.from_json(job) for job in given.get("jobs", ())),
        read_attempt(given.get("pods", ())),
        now,
    )


def write_all() -> None:
    """Write the outputs anew: ``python -m tests.operator.golden``; then read every change."""
    for name in NAMES:
        text = yaml.safe_dump(status_of(read(name)), sort_keys=False, allow_unicode=True, width=99)
        (DATA / "output" / f"{name}.yaml").write_text(text)


if __name__ == "__main__":
    write_all()
