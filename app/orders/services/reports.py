"""The rules of reports: ordered by an admin, made by a worker, downloaded when done."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Principal
from orders.core.database import transaction
from orders.core.errors import ConflictError, NotFoundError
from orders.core.spreadsheet import neutral
from orders.models import Report
from orders.repositories import reports
from orders.repositories.reports import Sold
from orders.schemas.report import ReportCreate
from orders.tasks.queue import enqueue

MAKE_REPORT: Final = "make_report"
"""The task that makes one."""


class ReportArguments(BaseModel):
    """What the task is told."""

    report_id: UUID


async def order(session: AsyncSession, principal: Principal, wanted: ReportCreate) -> Report:
    """Store the report and the task that makes it, or neither."""
    report = Report(user_id=principal.user_id, since=wanted.since, until=wanted.until)
    async with transaction(session):
        await reports.add(session, report)
        await enqueue(session, MAKE_REPORT, ReportArguments(report_id=report.id))
    return report


async def get(session: AsyncSession, report_id: UUID) -> Report:
    """Read how a report stands.

    Raises:
        NotFoundError: there is none of that id.
    """
    report = await reports.get(session, report_id)
    if report is None:
        raise NotFoundError(f"there is no report {report_id}")
    return report


async def download(session: AsyncSession, report_id: UUID) -> bytes:
    """Read what a report says: CSV.

    Raises:
        NotFoundError: there is none of that id.
        ConflictError: it is not done.
    """
    report = await get(session, report_id)
    content = await reports.content(session, report_id)
    if content is None:
        raise ConflictError(f"the report is not done: it is {report.status}")
    return content


async def make(session: AsyncSession, report_id: UUID) -> None:
    """Make the report; one that is done, or was deleted with its user, is left alone."""
    async with transaction(session):
        report = await reports.get(session, report_id)
        if report is not None and report.status != "done":
            rows = await reports.sold(session, report.since, report.until)
            await reports.finish(session, report_id, to_csv(rows))


async def give_up(session: AsyncSession, report_id: UUID) -> None:
    """Tell who waits for the report that it will not come."""
    async with transaction(session):
        await reports.fail(session, report_id)


def to_csv(rows: Iterable[Sold]) -> bytes:
    """Write the rows as CSV (RFC 4180), for any spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("sku", "name", "orders", "quantity", "cents"))
    for row in rows:
        writer.writerow((neutral(row.sku), neutral(row.name), row.orders, row.quantity, row.cents))
    return text.getvalue().encode()
