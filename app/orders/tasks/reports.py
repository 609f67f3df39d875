"""Makes reports."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from orders.services import reports
from orders.services.reports import ReportArguments
from orders.tasks.retry import Retry
from orders.tasks.task import Resources, Task


async def run(resources: Resources, arguments: ReportArguments) -> None:
    """Make the report; one that is done stays as it is."""
    async with resources.sessions() as session:
        await reports.make(session, arguments.report_id)


async def bury(resources: Resources, arguments: ReportArguments) -> None:
    """Tell who waits for the report that it will not come."""
    async with resources.sessions() as session:
        await reports.give_up(session, arguments.report_id)


MAKE_REPORT: Final = Task(
    name=reports.MAKE_REPORT,
    arguments=ReportArguments,
    run=run,
    retry=Retry(first=timedelta(seconds=2), longest=timedelta(minutes=5), attempts=8),
    bury=bury,
)
