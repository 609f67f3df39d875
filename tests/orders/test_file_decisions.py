"""What a file is, what it is called, and which part of it is asked for: pure decisions."""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncIterator
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.core.file_names import attachment, shown_name
from orders.core.media_types import ENDINGS, Sniffer, UnknownContentError
from orders.core.multipart import Form, MalformedBodyError, NoFormError
from orders.core.ranges import Span, UnsatisfiableError, is_known, wanted

ETAG, MODIFIED = '"abc"', "Sat, 21 Nov 2026 10:00:00 GMT"
NAMES = st.text(st.characters(), max_size=400)
TYPES = st.sampled_from(sorted(ENDINGS))


def sniff(*chunks: bytes, allowed: tuple[str, ...] = tuple(ENDINGS)) -> str:
    sniffer = Sniffer(allowed)
    for chunk in chunks:
        sniffer.feed(chunk)
    return sniffer.close()


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 20, "image/png"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 20, "image/jpeg"),
        (b"GIF89a" + b"\0" * 20, "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "application/pdf"),
        (b"PK\x03\x04" + b"\0" * 20, "application/zip"),
        (b"\x1f\x8b\x08" + zlib.compress(b"\0" * 10**6), "application/gzip"),
        ("Grüße, 世界\r\n\t…".encode(), "text/plain"),
        (b"a", "text/plain"),
        (b"<script>alert(1)</script>", "text/plain"),
        # Two things at a time: it is what it begins with, and nothing else from then on.
        (b"GIF89a/*" + b"\0" * 9 + b"*/=1;alert(1)//", "image/gif"),
        (b"%PDF-1.4\nPK\x03\x04<html>", "application/pdf"),
    ],
)
def test_a_file_is_what_it_begins_with(content: bytes, media_type: str) -> None:
    assert sniff(content) == media_type
    assert sniff(*(content[n : n + 1] for n in range(len(content)))) == media_type


@pytest.mark.parametrize(
    "content",
    [
        b"\x7fELF\x02\x01\x01" + b"\0" * 20,
        b"MZ\x90\0" + b"\0" * 20,
        b"text, and then a NUL \0",
        b"text, and then an escape \x1b[2J",
        b"text, and then no UTF-8 \xff",
        b"text, and then half a letter \xc3",
        b"\xff\xfet\0e\0x\0t\0",
        b" %PDF-1.7\n\xe2\xe3",  # a reader may pass over what is before; nobody here does
    ],
)
def test_what_is_none_of_them_is_refused(content: bytes) -> None:
    with pytest.raises(UnknownContentError):
        sniff(content)
    with pytest.raises(UnknownContentError):
        sniff(*(content[n : n + 1] for n in range(len(content))))


def test_a_type_that_is_known_is_not_yet_one_that_is_taken() -> None:
    with pytest.raises(UnknownContentError, match="it is application/zip"):
        sniff(b"PK\x03\x04" + b"\0" * 20, allowed=("text/plain",))


@given(st.binary(max_size=60), st.integers(1, 60))
def test_how_a_file_is_cut_changes_nothing(content: bytes, size: int) -> None:
    def verdict(*chunks: bytes) -> str | None:
        try:
            return sniff(*chunks)
        except UnknownContentError:
            return None

    pieces = [content[n : n + size] for n in range(0, len(content), size)]
    assert verdict(content) == verdict(*pieces)


@pytest.mark.parametrize(
    ("given_name", "media_type", "shown"),
    [
        ("bill.pdf", "application/pdf", "bill.pdf"),
        ("Grüße 世界.TXT", "text/plain", "Grüße 世界.TXT"),
        ("../../etc/passwd", "text/plain", "passwd.txt"),
        ("..\\..\\windows\\system.ini", "text/plain", "system.ini.txt"),
        ("C:\\fakepath\\a.png", "image/png", "a.png"),
        ("bill.pdf.exe", "application/pdf", "bill.pdf.exe.pdf"),
        ("page.html", "text/plain", "page.html.txt"),
        ("a\0b\r\nX-Evil: 1.txt", "text/plain", "abX-Evil_ 1.txt"),
        ("gpj.\u202etxt.exe", "image/jpeg", "gpj.txt.exe.jpg"),
        ("..", "text/plain", "file.txt"),
        (".pdf", "application/pdf", "pdf.pdf"),
        ("", "image/gif", "file.gif"),
        ("/", "image/gif", "file.gif"),
    ],
)
def test_a_name_is_shown_without_what_could_harm(
    given_name: str, media_type: str, shown: str
) -> None:
    assert shown_name(given_name, media_type) == shown


@given(NAMES, TYPES)
def test_any_name_becomes_one_that_can_be_shown(name: str, media_type: str) -> None:
    shown = shown_name(name, media_type)
    assert not re.search(r'[/\\"<>|:*?\x00-\x1f\x7f]', shown)
    assert shown.lower().endswith(ENDINGS[media_type])
    assert 0 < len(shown.encode()) <= 200
    assert shown_name(shown, media_type) == shown

    told = attachment(shown)
    told.encode("ascii")  # a header can carry it
    plain = re.fullmatch(r'attachment; filename="([^"\\%]*)"(?:; filename\*=UTF-8\'\'(\S+))?', told)
    assert plain
    assert (unquote(plain[2]) if plain[2] else plain[1]) == shown


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-0", Span(0, 1)),
        ("bytes=2-4", Span(2, 5)),
        ("bytes=2-", Span(2, 10)),
        ("bytes=-3", Span(7, 10)),
        ("bytes=-99", Span(0, 10)),
        ("bytes=5-99", Span(5, 10)),
        ("bytes=4-2", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=0-1,3-4", None),  # several: the whole
        ("bytes=" + ",".join(["0-"] * 1000), None),
        ("lines=0-1", None),
        ("bytes=1-" + "9" * 5000, None),
        ("bytes=\u0661-\u0662", None),
    ],
)
def test_one_range_is_a_part_and_anything_else_the_whole(
    header: str | None, part: Span | None
) -> None:
    assert wanted(header, None, 10, ETAG, MODIFIED) == part


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-11", "bytes=999-", "bytes=-0"])
def test_a_range_behind_the_end_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(UnsatisfiableError):
        wanted(header, None, 10, ETAG, MODIFIED)


@pytest.mark.parametrize(
    ("if_range", "counts"),
    [
        (ETAG, True),
        (MODIFIED, True),
        ('"other"', False),
        (f"W/{ETAG}", False),
        ("Sat, 21 Nov 2026 10:00:01 GMT", False),
        ("", False),
    ],
)
def test_a_part_of_another_version_is_the_whole(if_range: str, counts: bool) -> None:
    assert (wanted("bytes=0-1", if_range, 10, ETAG, MODIFIED) is not None) is counts


@given(st.text(max_size=30) | st.from_regex(r"bytes=\d{0,3}-\d{0,3}"), st.integers(1, 300))
def test_no_range_reaches_outside_of_the_file(header: str, size: int) -> None:
    try:
        part = wanted(header, None, size, ETAG, MODIFIED)
    except UnsatisfiableError:
        return
    assert part is None or 0 <= part.start < part.stop <= size


@pytest.mark.parametrize(
    ("header", "known"),
    [
        (None, False),
        (ETAG, True),
        (f'"x", W/{ETAG}', True),
        ("*", True),
        ('"x"', False),
        ("abc", False),
    ],
)
def test_a_client_that_has_it_is_told_so(header: str | None, known: bool) -> None:
    assert is_known(header, ETAG) is known


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def read(*chunks: bytes) -> list[tuple[str, str, bytes]]:
    form = Form('multipart/form-data; boundary="x"', stream(*chunks))
    return [
        (part.field, part.file_name, b"".join([chunk async for chunk in part.content]))
        async for part in form.parts()
    ]


def body(*files: tuple[str, bytes]) -> bytes:
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n'
        % (name.encode(), content)
        for name, content in files
    ]
    return b"".join([*parts, b"--x--\r\n"])


@given(st.lists(st.binary(max_size=50), max_size=4), st.integers(1, 60))
async def test_a_form_is_read_however_it_is_cut(contents: list[bytes], size: int) -> None:
    contents = [each.replace(b"\r\n--x", b"") for each in contents]
    whole = body(*((f"{n}.txt", each) for n, each in enumerate(contents)))
    pieces = [whole[n : n + size] for n in range(0, len(whole), size)]
    assert await read(*pieces) == [("files", f"{n}.txt", each) for n, each in enumerate(contents)]


async def test_what_nobody_reads_of_a_part_is_passed_over() -> None:
    form = Form("multipart/form-data; boundary=x", stream(body(("a", b"1" * 99), ("b", b"2"))))
    assert [part.file_name async for part in form.parts()] == ["a", "b"]


@pytest.mark.parametrize(
    "chunks",
    [
        (),
        (b"",),
        (b"no form at all",),
        (body(("a", b"1"))[:-8],),
        (b"--x\r\n\r\n",),
        (b"--x\r\nContent-Disposition: " + b"a" * 10_000,),
        (b"--x\r\n" + b"A: b\r\n" * 100,),
        (b"--x\r\n\0: \0\r\n\r\n\r\n--x--",),
    ],
)
async def test_a_malformed_form_is_refused(chunks: tuple[bytes, ...]) -> None:
    with pytest.raises(MalformedBodyError):
        await read(*chunks)


@pytest.mark.parametrize(
    "content_type",
    ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=x", "\xff"],
)
def test_what_is_no_form_is_refused_by_its_type(content_type: str) -> None:
    with pytest.raises(NoFormError):
        Form(content_type, stream())
