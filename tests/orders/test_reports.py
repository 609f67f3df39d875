"""Reports: ordered, made by a worker, downloaded."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Role
from orders.core.database import Sessions
from orders.outbound.payment_provider import PaymentProvider
from orders.repositories.reports import Sold
from orders.services.reports import ReportArguments, to_csv
from orders.tasks import reports as task
from orders.tasks.task import Resources
from tests.orders.conftest import SignIn
from tests.orders.factories import make_order, make_product, make_user

JANUARY = {"since": "2026-01-01", "until": "2026-01-31"}
NOBODY: PaymentProvider | None = None


@pytest.fixture
async def admin_client(
    client: httpx.AsyncClient, session: AsyncSession, sign_in: SignIn
) -> httpx.AsyncClient:
    sign_in(await make_user(session, role=Role.ADMIN))
    return client


async def make(sessions: Sessions, report: dict[str, Any]) -> None:
    """What the worker does with the task."""
    await task.run(Resources(sessions, NOBODY), ReportArguments(report_id=report["id"]))


async def sell(session: AsyncSession, when: datetime, status: str, **product: Any) -> None:  # noqa: ANN401
    user, tea = await make_user(session), await make_product(session, **product)
    await make_order(session, user, tea, status=status, created_at=when)


async def test_a_report_is_accepted_made_and_downloaded(
    admin_client: httpx.AsyncClient, session: AsyncSession, sessions: Sessions
) -> None:
    await sell(session, datetime(2026, 1, 31, 23, 59, tzinfo=UTC), "confirmed", sku="tea")
    await sell(session, datetime(2026, 2, 1, tzinfo=UTC), "confirmed", sku="too-late")
    await sell(session, datetime(2026, 1, 5, tzinfo=UTC), "cancelled", sku="not-sold")

    accepted = await admin_client.post("/api/v1/reports", json=JANUARY)
    assert (accepted.status_code, accepted.json()["status"]) == (202, "waiting")
    where = accepted.headers["location"]
    assert where == f"/api/v1/reports/{accepted.json()['id']}"
    queued = "SELECT count(*) FROM pgqueuer WHERE entrypoint = 'make_report'"
    assert await session.scalar(text(queued)) == 1

    waiting = await admin_client.get(where)
    assert (waiting.json()["status"], waiting.headers["retry-after"]) == ("waiting", "2")
    too_early = await admin_client.get(f"{where}/download")
    assert (too_early.status_code, too_early.json()["detail"]) == (
        409,
        "the report is not done: it is waiting",
    )

    for _ in range(2):  # a worker that was killed runs it again
        await make(sessions, accepted.json())
    session.expire_all()
    done = await admin_client.get(where)
    assert (done.json()["status"], "retry-after" in done.headers) == ("done", False)
    download = await admin_client.get(f"{where}/download")
    assert download.headers["content-type"] == "text/csv; charset=utf-8"
    assert download.headers["content-disposition"].startswith("attachment; filename=")
    assert download.text == "sku,name,orders,quantity,cents\r\ntea,Tea,1,1,450\r\n"


async def test_who_waits_for_a_dead_report_is_told(
    admin_client: httpx.AsyncClient, sessions: Sessions
) -> None:
    report = (await admin_client.post("/api/v1/reports", json=JANUARY)).json()
    arguments = ReportArguments(report_id=report["id"])
    await task.bury(Resources(sessions, NOBODY), arguments)
    where = f"/api/v1/reports/{report['id']}"
    assert (await admin_client.get(where)).json()["status"] == "failed"
    await make(sessions, report)  # an admin has brought the task back
    assert (await admin_client.get(where)).json()["status"] == "done"


async def test_a_report_that_went_with_its_user_is_no_reason_to_fail(sessions: Sessions) -> None:
    await make(sessions, {"id": "7b6ff2bb-31d5-4e6f-a6d4-8f3b6f0b7a54"})


async def test_reports_are_for_admins(
    client: httpx.AsyncClient, session: AsyncSession, sign_in: SignIn
) -> None:
    assert (await client.post("/api/v1/reports", json=JANUARY)).status_code == 401
    sign_in(await make_user(session))
    assert (await client.post("/api/v1/reports", json=JANUARY)).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"since": "2026-02-01", "until": "2026-01-01"},
        {"since": "1066-10-14", "until": "2026-01-01"},
        {"since": "2026-01-01", "until": "9999-12-31"},
        {"since": "yesterday", "until": "2026-01-01"},
        {**JANUARY, "path": "../../etc/passwd"},
    ],
)
async def test_a_malformed_order_is_refused(
    admin_client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    answer = await admin_client.post("/api/v1/reports", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_what_does_not_exist_is_not_found(admin_client: httpx.AsyncClient) -> None:
    missing = "/api/v1/reports/7b6ff2bb-31d5-4e6f-a6d4-8f3b6f0b7a54"
    for path in (missing, f"{missing}/download"):
        assert (await admin_client.get(path)).status_code == 404


PRINTABLE = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))


@given(st.lists(st.builds(Sold, PRINTABLE, PRINTABLE, *[st.integers(0, 2**63)] * 3)))
def test_no_cell_is_a_formula_and_nothing_is_lost(rows: list[Sold]) -> None:
    text = to_csv(rows).decode()
    read = list(csv.reader(io.StringIO(text, newline="")))[1:]
    assert [row[1].removeprefix("'") for row in read] == [
        row.name.removeprefix("'") for row in rows
    ]
    assert not any(
        cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in read for cell in row
    )
