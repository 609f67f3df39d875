"""``/api/v1/reports``: ordered here, made by a worker."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter, Request, Response

from orders.api.deps import Admin, Session
from orders.core.openapi import problems
from orders.models import Report
from orders.schemas.report import ReportCreate, ReportRead
from orders.services import reports

router = APIRouter(prefix="/reports", tags=["reports"])

_ASK_AGAIN = "2"  # seconds
_HEADERS = {
    "Location": {"description": "Where to ask how it stands.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds until then.", "schema": {"type": "integer"}},
}


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    response_model=ReportRead,
    responses={202: {"headers": _HEADERS}, **problems(403)},
    summary="Order a report",
)
async def order_report(
    wanted: ReportCreate, admin: Admin, session: Session, request: Request, response: Response
) -> Report:
    """What was sold, by product. A worker makes it: ask at `Location` how it stands."""
    report = await reports.order(session, admin, wanted)
    response.headers["location"] = request.url_for("read_report", report_id=report.id).path
    response.headers["retry-after"] = _ASK_AGAIN
    return report


@router.get(
    "/{report_id}",
    response_model=ReportRead,
    responses=problems(403, 404),
    summary="Ask how a report stands",
)
async def read_report(report_id: UUID, _: Admin, session: Session, response: Response) -> Report:
    """While it waits, `Retry-After` says when to ask again."""
    report = await reports.get(session, report_id)
    if report.status == "waiting":
        response.headers["retry-after"] = _ASK_AGAIN
    return report


@router.get(
    "/{report_id}/download",
    response_class=Response,
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **problems(403, 404, 409),
    },
    summary="Download a report",
)
async def download_report(report_id: UUID, _: Admin, session: Session) -> Response:
    """CSV with the columns sku, name, orders, quantity, cents."""
    content = await reports.download(session, report_id)
    name = f"report-{report_id}.csv"
    return Response(
        content,
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )
