"""``/api/v1/files``: uploaded as a form, downloaded in parts or whole."""

from __future__ import annotations

from email.utils import format_datetime
from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from orders.api.deps import Files, FilesReader, FilesWriter, Limit, Offset, Session, Settings
from orders.core.body import bounded, within
from orders.core.errors import ProblemResponse
from orders.core.file_names import attachment
from orders.core.multipart import PART_OVERHEAD, Form
from orders.core.openapi import ETAG, LOCATION, headers, problems
from orders.core.ranges import Span, UnsatisfiableError, is_known, wanted
from orders.models import File
from orders.schemas.file import FileRead
from orders.schemas.page import Page
from orders.services import files
from orders.services.files import Limits

router = APIRouter(prefix="/files", tags=["files"])

_UPLOAD: Final = problems(403, 408, 413, 415, 501, 507)
_BINARY: Final = {"type": "string", "contentMediaType": "application/octet-stream"}
# No page of ours, and none of anybody: a browser may only save it, and guess nothing.
_SAVED_ONLY: Final = {
    "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-site",
    "Cache-Control": "private, no-cache",  # may be kept, and is asked about by its ETag
    "Accept-Ranges": "bytes",
    # So that nothing on the way compresses it: a part of the one is no part of the other.
    "Content-Encoding": "identity",
}


def _form(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    form = {"type": "object", "required": [field], "properties": {field: schema}}
    body = {"required": True, "content": {"multipart/form-data": {"schema": form}}}
    return {"requestBody": body}


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=FileRead,
    responses=headers(201, Location=LOCATION) | _UPLOAD,
    openapi_extra=_form("file", _BINARY),
    summary="Upload a file",
)
async def upload_file(
    user: FilesWriter,
    session: Session,
    storage: Files,
    settings: Settings,
    request: Request,
    response: Response,
) -> File:
    """Send it as the field `file` of a form. What it is, its content says, not its name."""
    limits = Limits("file", 1, settings.file_bytes, settings.files_kept_bytes, settings.file_types)
    body = bounded(request, settings.file_bytes + 2 * PART_OVERHEAD)
    async with within(settings.upload_seconds):
        form = Form(request.headers.get("content-type", ""), body)
        (file,) = await files.receive(session, storage, user, form.parts(), limits)
    response.headers["location"] = f"{request.url.path}/{file.id}"
    return file


@router.post(
    "/batch",
    status_code=HTTPStatus.CREATED,
    response_model=list[FileRead],
    responses=_UPLOAD,
    openapi_extra=_form("files", {"type": "array", "items": _BINARY, "minItems": 1}),
    summary="Upload several files",
)
async def upload_files(
    user: FilesWriter, session: Session, storage: Files, settings: Settings, request: Request
) -> list[File]:
    """Send each as a field `files` of one form. All are stored, or none."""
    count = settings.files_at_once
    limits = Limits(
        "files", count, settings.file_bytes, settings.files_kept_bytes, settings.file_types
    )
    body = bounded(request, settings.files_bytes + (count + 1) * PART_OVERHEAD)
    async with within(settings.upload_seconds):
        form = Form(request.headers.get("content-type", ""), body)
        return list(await files.receive(session, storage, user, form.parts(), limits))


@router.get("", response_model=Page[FileRead], responses=problems(403), summary="List your files")
async def list_files(
    user: FilesReader, session: Session, limit: Limit = 50, offset: Offset = 0
) -> dict[str, Any]:
    """Return one page, the latest first."""
    items, total = await files.list_page(session, user, limit=limit, offset=offset)
    return {"items": items, "total": total}


@router.get(
    "/{file_id}",
    response_model=FileRead,
    responses=problems(403, 404),
    summary="Read what is known of a file",
)
async def read_file(file_id: UUID, user: FilesReader, session: Session) -> File:
    """Its content is at `/content`."""
    return await files.get(session, user, file_id)


_CONTENT: Final = {"application/octet-stream": {"schema": _BINARY}}
_DOWNLOAD: Final[dict[int | str, dict[str, Any]]] = {
    200: {"headers": {"ETag": ETAG}, "content": _CONTENT},
    206: {"description": "The part that was asked for.", "content": _CONTENT},
    304: {"description": "You have it already."},
    **problems(403, 404, 416, 501),
}


@router.head(
    "/{file_id}/content",
    name="head_content",
    response_class=Response,
    responses=_DOWNLOAD,
    summary="Ask how a download would be",
)
@router.get(
    "/{file_id}/content",
    name="download_content",
    response_class=Response,
    responses=_DOWNLOAD,
    summary="Download a file",
)
async def download_file(
    file_id: UUID,
    user: FilesReader,
    session: Session,
    storage: Files,
    request: Request,
    range_: Annotated[str | None, Header(alias="Range", description="One; else it is all.")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A `Range` of bytes is answered with 206; with several, the answer is the whole file."""
    file = await files.get(session, user, file_id)
    await session.commit()  # the connection goes back: who reads slowly is not to hold one
    etag, modified = f'"{(file.sha256 or b"").hex()}"', _http_date(file)
    told = _SAVED_ONLY | {"ETag": etag, "Last-Modified": modified}
    if is_known(if_none_match, etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=told)
    try:
        # Of HEAD the RFC defines no ranges.
        asked = range_ if request.method == "GET" else None
        part = wanted(asked, if_range, file.size, etag, modified)
    except UnsatisfiableError:
        return ProblemResponse(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"the range begins behind the file's end: it has {file.size} bytes",
            headers={"Content-Range": f"bytes */{file.size}"},
        )
    span = part or Span(0, file.size)
    told |= {"Content-Length": str(span.size), "Content-Disposition": attachment(file.name)}
    if request.method == "HEAD":
        return Response(headers=told, media_type=file.media_type)
    if part:
        told["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{file.size}"
    content = await files.content(storage, file, span.start, span.stop)
    status = HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK
    return StreamingResponse(content, status, told, file.media_type)


@router.delete(
    "/{file_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems(403, 404, 501),
    summary="Delete a file",
)
async def delete_file(file_id: UUID, user: FilesWriter, session: Session, storage: Files) -> None:
    """It is gone for everybody at once."""
    await files.delete(session, storage, user, file_id)


def _http_date(file: File) -> str:
    return format_datetime(file.created_at, usegmt=True)
