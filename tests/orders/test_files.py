"""Files: uploaded, listed, downloaded in parts and whole, deleted; and whose they are."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import AsyncIterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Role
from orders.core.database import Sessions
from orders.models import File, User
from orders.repositories import files as rows
from orders.services import files
from orders.storage.seam import StorageError
from tests.orders.conftest import SignIn, Start, speak_as
from tests.orders.factories import api_key, make_user, principal_of

FILES = "/api/v1/files"
PDF = b"%PDF-1.7\n" + b"0123456789" * 10
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.fixture
async def ann(session: AsyncSession, sign_in: SignIn) -> User:
    ann = await make_user(session)
    sign_in(ann)
    return ann


@pytest.fixture
def folder(app: FastAPI) -> Path:
    """Where the application keeps its files."""
    folder: Path = app.state.settings.files_directory
    return folder


def kept(folder: Path) -> set[str]:
    """Whatever the storage holds, whole or in part."""
    return {path.name for path in folder.rglob("*") if path.is_file()}


async def upload(client: httpx.AsyncClient, content: bytes, name: str = "bill.pdf") -> Any:  # noqa: ANN401 - JSON
    answer = await client.post(FILES, files={"file": (name, content)})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_file_is_uploaded_read_downloaded_and_deleted(
    client: httpx.AsyncClient, ann: User, folder: Path
) -> None:
    before = kept(folder)
    answer = await client.post(FILES, files={"file": ("../../bill.pdf", PDF, "text/html")})
    assert answer.status_code == 201
    file, where = answer.json(), answer.headers["location"]
    assert where == f"{FILES}/{file['id']}"
    told = {"name": "bill.pdf", "media_type": "application/pdf", "size": len(PDF)}
    assert file == file | told | {"sha256": sha256(PDF).hexdigest()}
    key = UUID(file["id"]).hex
    assert kept(folder) - before == {key}
    assert (folder / key[:2] / key[2:4] / key).read_bytes() == PDF

    assert (await client.get(where)).json() == file
    assert (await client.get(FILES)).json() == {"items": [file], "total": 1}
    download = await client.get(f"{where}/content")
    assert (download.status_code, download.content) == (200, PDF)

    assert (await client.delete(where)).status_code == 204
    assert kept(folder) == before
    for gone in (where, f"{where}/content"):
        assert (await client.get(gone)).status_code == 404
    assert (await client.delete(where)).status_code == 404
    assert (await client.get(FILES)).json()["total"] == 0


async def test_an_api_key_reads_or_writes_files_as_its_scopes_say(
    app: FastAPI, client: httpx.AsyncClient, ann: User
) -> None:
    keys = {}
    for scope in ("files:read", "files:write"):
        made = await client.post("/api/v1/api-keys", json=api_key(scope))
        keys[scope] = {"x-api-key": made.json()["key"]}
    reads, writes = keys.values()
    app.dependency_overrides.clear()
    form = {"file": ("bill.pdf", PDF)}
    sent = await client.post(FILES, files=form, headers=writes)
    assert (sent.status_code, sent.json()["size"]) == (201, len(PDF))
    where = sent.headers["location"]
    for path in (FILES, where, f"{where}/content"):
        assert (await client.get(path, headers=reads)).status_code == 200
        refused = await client.get(path, headers=writes)
        assert refused.json()["detail"] == "the API key lacks the scope files:read"
    for attempt in (
        client.post(FILES, files=form, headers=reads),
        client.post(f"{FILES}/batch", files={"files": PDF}, headers=reads),
        client.delete(where, headers=reads),
    ):
        refused = await attempt
        assert (refused.status_code, "files:write" in refused.text) == (403, True)
    assert (await client.delete(where, headers=writes)).status_code == 204


async def test_a_browser_can_do_nothing_with_a_download_but_save_it(
    client: httpx.AsyncClient, ann: User
) -> None:
    page = b"<script>alert(document.cookie)</script>"
    file = await upload(client, page, "Grüße.html")
    download = await client.get(
        f"{FILES}/{file['id']}/content", headers={"accept-encoding": "gzip"}
    )
    told = download.headers
    assert told["content-type"] == "text/plain; charset=utf-8"
    assert told["x-content-type-options"] == "nosniff"
    assert told["content-security-policy"].startswith("sandbox;")
    shown, _, name = told["content-disposition"].partition("; filename*=UTF-8''")
    assert (shown, unquote(name)) == ('attachment; filename="Gr__e.html.txt"', "Grüße.html.txt")
    assert told["cache-control"] == "private, no-cache"
    assert told["content-length"] == str(len(page))


async def test_a_download_is_answered_in_parts(client: httpx.AsyncClient, ann: User) -> None:
    file = await upload(client, PDF)
    content = f"{FILES}/{file['id']}/content"
    whole = await client.get(content)
    etag, modified = whole.headers["etag"], whole.headers["last-modified"]
    assert (etag, whole.headers["accept-ranges"]) == (f'"{file["sha256"]}"', "bytes")

    async def ask(method: str = "GET", **named: str) -> tuple[int, bytes, str | None]:
        told = {name.replace("_", "-"): value for name, value in named.items()}
        answer = await client.request(method, content, headers=told)
        return answer.status_code, answer.content, answer.headers.get("content-range")

    size = len(PDF)
    assert await ask(range="bytes=0-3") == (206, b"%PDF", f"bytes 0-3/{size}")
    assert await ask(range="bytes=-5") == (206, b"56789", f"bytes {size - 5}-{size - 1}/{size}")
    assert await ask(range="bytes=5-", if_range=etag) == (
        206,
        PDF[5:],
        f"bytes 5-{size - 1}/{size}",
    )
    assert (await ask(range="bytes=0-3", if_range=modified))[0] == 206
    assert await ask(range="bytes=0-3", if_range='"other"') == (200, PDF, None)
    assert await ask(range="bytes=0-1,4-5") == (200, PDF, None)
    status, problem, told = await ask(range=f"bytes={size}-")
    assert (status, told) == (416, f"bytes */{size}")
    assert b"behind the file's end" in problem
    assert await ask(if_none_match=etag) == (304, b"", None)
    assert await ask(if_none_match=etag, range="bytes=0-3") == (304, b"", None)

    assert await ask("HEAD", range="bytes=0-3") == (200, b"", None)
    head = await client.head(content)
    same = ("etag", "content-length", "content-type", "content-disposition", "accept-ranges")
    assert [head.headers[name] for name in same] == [whole.headers[name] for name in same]


async def test_many_files_come_together(client: httpx.AsyncClient, ann: User) -> None:
    wanted = [("files", ("a.txt", b"a")), ("files", ("b.png", PNG)), ("files", ("c.pdf", PDF))]
    answer = await client.post(f"{FILES}/batch", files=wanted)
    assert answer.status_code == 201
    told = [(each["name"], each["media_type"], each["size"]) for each in answer.json()]
    assert told == [
        ("a.txt", "text/plain", 1),
        ("b.png", "image/png", len(PNG)),
        ("c.pdf", "application/pdf", len(PDF)),
    ]


def zip_bomb() -> bytes:
    bomb = BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(20_000_000))
    return bomb.getvalue()


REFUSED: list[tuple[str, list[tuple[str, tuple[str, bytes]]], int, str]] = [
    ("", [("file", ("a.exe", b"MZ\x90\0" + bytes(50)))], 415, "no type that is taken"),
    ("", [("file", ("a.zip", zip_bomb()))], 415, "it is application/zip"),
    ("", [("file", ("a.txt", b"a\0b"))], 415, "no control characters"),
    ("", [("file", ("a.txt", b""))], 422, "the file is empty"),
    ("", [("other", ("a.txt", b"a"))], 422, "fields called file"),
    ("", [("file", ("a.txt", b"a"))] * 2, 413, "1 file(s)"),
    ("", [("file", ("a.txt", b"a" * (10 * 1024 * 1024 + 1)))], 413, "10485760 bytes"),
    ("", [("file", ("n" * 5000, b"a"))], 400, "malformed"),
    ("/batch", [("files", ("a.txt", b"a"))] * 11, 413, "10 file(s)"),
    ("/batch", [("files", ("a.txt", b"a")), ("files", ("b", b"\0"))], 415, "control characters"),
]


@pytest.mark.parametrize(("path", "form", "status", "words"), REFUSED)
async def test_what_is_refused_leaves_nothing_behind(
    client: httpx.AsyncClient,
    session: AsyncSession,
    ann: User,
    folder: Path,
    path: str,
    form: list[tuple[str, tuple[str, bytes]]],
    status: int,
    words: str,
) -> None:
    before = kept(folder)
    answer = await client.post(FILES + path, files=form)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.text
    assert kept(folder) == before
    assert await session.scalar(select(func.count()).select_from(File)) == 0


@pytest.mark.parametrize(
    ("content_type", "content", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"", 415),
        (f"multipart/form-data; boundary=x; a={'a' * 1000}", b"--x--\r\n", 415),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nA", 400),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 422),
    ],
)
async def test_a_body_that_is_no_form_is_refused(
    client: httpx.AsyncClient, ann: User, content_type: str, content: bytes, status: int
) -> None:
    answer = await client.post(FILES, content=content, headers={"content-type": content_type})
    assert answer.status_code == status, answer.text


async def test_no_path_in_an_address_leads_anywhere(client: httpx.AsyncClient, ann: User) -> None:
    for path in ("..%2f..%2fetc%2fpasswd", "%00", "a" * 3000, "%2e%2e/content", "../content"):
        answer = await client.get(f"{FILES}/{path}")
        assert answer.status_code in (404, 422), path
        assert "root:" not in answer.text


async def test_a_file_is_its_owners_and_an_admins(
    client: httpx.AsyncClient, session: AsyncSession, ann: User, sign_in: SignIn
) -> None:
    where = f"{FILES}/{(await upload(client, PDF))['id']}"
    sign_in(await make_user(session))
    for path in (where, f"{where}/content"):
        assert (await client.get(path)).status_code == 404
    assert (await client.delete(where)).status_code == 404
    assert (await client.get(FILES)).json()["total"] == 0
    sign_in(None)
    for path in (where, f"{where}/content", FILES):
        assert (await client.get(path)).status_code == 401
    assert (await client.post(FILES, files={"file": PDF})).status_code == 401
    sign_in(await make_user(session, role=Role.ADMIN))
    assert (await client.get(f"{where}/content")).content == PDF


async def test_a_transaction_that_fails_leaves_no_content(
    client: httpx.AsyncClient,
    ann: User,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = kept(folder)

    async def fail(session: AsyncSession, _: object) -> None:
        await session.execute(text("SELECT 1/0"))

    monkeypatch.setattr(rows, "settle", fail)
    answer = await client.post(FILES, files={"file": ("bill.pdf", PDF)})
    assert answer.status_code == 500
    assert kept(folder) == before


async def test_content_is_cleared_once_nobody_can_ask_for_it(
    client: httpx.AsyncClient,
    app: FastAPI,
    session: AsyncSession,
    sessions: Sessions,
    ann: User,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = kept(folder)
    storage = app.state.storage
    stays, deleted, orphan, late = [await upload(client, PDF) for _ in range(4)]

    async def away(_: UUID) -> None:
        raise StorageError("away")

    with monkeypatch.context() as broken:
        broken.setattr(storage, "delete", away)
        answer = await client.delete(f"{FILES}/{deleted['id']}")
        assert answer.status_code == 204  # gone for everybody, whatever the storage does
        assert (await client.get(f"{FILES}/{deleted['id']}")).status_code == 404
    owner = "UPDATE files SET user_id = NULL WHERE id = :id"  # as the end of a user does
    await session.execute(text(owner), {"id": orphan["id"]})
    killed = (
        "UPDATE files SET state = 'arriving', created_at = now() - interval '2 h' WHERE id = :id"
    )
    await session.execute(text(killed), {"id": late["id"]})
    await rows.announce(session, UUID(int=1), ann.id)  # comes in at this moment
    await session.commit()
    assert len(kept(folder) - before) == 4

    async with sessions() as own:
        assert await files.clear(own, storage) == 3
        assert await files.clear(own, storage) == 0
    assert kept(folder) - before == {UUID(stays["id"]).hex}
    left = await session.scalars(select(File.id).execution_options(populate_existing=True))
    assert set(left) == {UUID(stays["id"]), UUID(int=1)}


async def test_nobody_keeps_more_than_they_may_however_it_comes(
    start: Start, tmp_path: Path
) -> None:
    live = start(files_directory=tmp_path, files_kept_bytes=3 * len(PDF))
    async with live.sessions() as session:
        ann, other = await make_user(session), await make_user(session)
    speak_as(live.app, principal_of(ann))
    at_once = [live.client.post(FILES, files={"file": PDF}) for _ in range(6)]
    answers = await asyncio.gather(*at_once)
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [413] * 3
    full = await live.client.post(FILES, files={"file": b"a"})
    assert (full.status_code, full.json()["detail"]) == (
        413,
        "all your files together may have 327 bytes, and have 327 already: "
        "delete what you need no more",
    )
    assert len(kept(tmp_path)) == 3

    async def endless() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        while True:
            yield b"a" * 1000

    form = {"content-type": "multipart/form-data; boundary=x"}
    on_the_way = await live.client.post(FILES, content=endless(), headers=form)
    assert "delete what" in on_the_way.json()["detail"]
    stored = next(answer for answer in answers if answer.status_code == 201)
    await live.client.delete(stored.headers["location"])
    batch = [("files", PDF), ("files", b"b")]
    assert (await live.client.post(f"{FILES}/batch", files=batch)).status_code == 413
    assert (await live.client.post(f"{FILES}/batch", files=batch[:1])).status_code == 201
    speak_as(live.app, principal_of(other))
    assert (await live.client.post(FILES, files={"file": PDF})).status_code == 201


async def test_without_a_storage_who_asks_is_told_so(
    client: httpx.AsyncClient, app: FastAPI, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.state, "storage", None)
    answer = await client.post(FILES, files={"file": PDF})
    assert answer.status_code == 501
    assert "APP_FILES_DIRECTORY" in answer.json()["detail"]
