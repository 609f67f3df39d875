"""Scrubbing: a secret never comes through, wherever it is; harmless text stays as it is."""

from __future__ import annotations

import base64
import json
import time
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidegate.scrub import LONGEST, MARK, WITHHELD, Scrubber

CANARY = "c4n4ry7"
SCRUBBER = Scrubber(["iban", "date of birth"])

secret_names = st.sampled_from(
    [
        *("password", "DB_PASSWORD", "userPassword", "passwd", "access_token", "csrftoken"),
        *("client-secret", "Authorization", "proxy-authorization", "Cookie", "set-cookie"),
        *("api_key", "apiKey", "X-API-Key", "API KEY", "SENTRY_DSN", "sentryDsn", "session.id"),
        *("aws.credentials", "private key", "db.connection_string", "jwt", "iban", "DateOfBirth"),
    ]
)
# What may stand around a canary: no space, which ends a URL and an unquoted value.
around = st.text(st.characters(codec="utf-8", exclude_characters=" \t\r\n\f\v"), max_size=12)
schemes = st.sampled_from(["https", "http", "ws", "postgresql+asyncpg", "redis", "amqp"])
prose = st.text("abcxyzABC019 -_.,;()[]'\"/äß\n", max_size=60)


@given(prose, around, around, prose)
def test_no_part_of_a_query_comes_through(before: str, left: str, right: str, behind: str) -> None:
    text = f"{before} https://host/path?{left}{CANARY}{right} {behind}"
    assert CANARY not in SCRUBBER.text(text)
    assert CANARY not in SCRUBBER.text(f'"GET /path?{left}{CANARY}{right} HTTP/1.1" 200')


@given(prose, schemes, around, around, prose)
@example("", "https", "", "", "")
@example("", "postgresql", ":a@b/", "?#", "")
def test_no_part_of_a_urls_user_and_password_comes_through(
    before: str, scheme: str, left: str, right: str, behind: str
) -> None:
    if scheme in {"https", "http", "ws"}:  # elsewhere people write passwords as they are
        left, right = (part.translate(dict.fromkeys(map(ord, "/?#"))) for part in (left, right))
    url = f"{scheme}://{left}{CANARY}{right}@host:5432/db"
    assert CANARY not in SCRUBBER.text(f"{before} {url} {behind}")
    assert "host:5432/db" in SCRUBBER.text(f"{before} {url}")


@given(
    secret_names,
    st.sampled_from(["=", ": ", " = ", ":", " := ", " == ", " => ", "%3D"]),
    around,
    around,
)
def test_no_named_value_in_a_text_comes_through(
    name: str, separator: str, left: str, right: str
) -> None:
    text = f"refused {name}{separator}{left.lstrip(chr(34) + chr(39))}{CANARY}{right}"
    assert CANARY not in SCRUBBER.text(text)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"url": f"http://u:{CANARY}@h/x?{CANARY}"}).replace("/", "\\/"),
        json.dumps(json.dumps(f"http://u:{CANARY}@h/x?{CANARY}").replace("/", "\\/")),
        f"/login%3Fnext=https%3A%2F%2Fu%3A{CANARY}%40h%2Fx",
        f"next=https%3a%2f%2fh%2fx%3Fcode%3D{CANARY}",
        f"next=https%253A%252F%252Fh%252Fx%253Fcode%253D{CANARY}",
    ],
)
def test_no_part_of_an_escaped_url_comes_through(text: str) -> None:
    assert CANARY not in SCRUBBER.text(text)


@given(secret_names, st.text(), st.text())
def test_no_named_value_in_json_or_a_repr_comes_through(name: str, left: str, right: str) -> None:
    value = f"{left}{CANARY}{right}"
    for text in (
        json.dumps({"a": 1, name: value, "b": 2}),
        json.dumps({"a": json.dumps({name: value})}),
        repr({"a": 1, name: value}),
        repr([(name.encode(), value.encode())]),
    ):
        assert CANARY not in SCRUBBER.text(text), text


@given(
    st.sampled_from(["Cookie", "Authorization", "set-cookie"]), st.text("ab =;,\"'[]", max_size=9)
)
def test_a_header_goes_to_the_end_of_its_line(name: str, left: str) -> None:
    text = f"GET / HTTP/1.1\r\n{name}: {left}{CANARY}; more={CANARY} {CANARY}\r\nHost: here"
    scrubbed = SCRUBBER.text(text)
    assert CANARY not in scrubbed
    assert scrubbed.endswith("\r\nHost: here")


@pytest.mark.parametrize(
    "text",
    [
        f"sent Bearer {CANARY}",
        f"sent bearer   {CANARY}, got 401",
        f"Basic {base64.b64encode(CANARY.encode() + b':x').decode()}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{CANARY}",
        f"no such user: eyJhbGciOi.{CANARY}.c2ln",
    ],
)
def test_credentials_are_recognised_without_a_name(text: str) -> None:
    scrubbed = SCRUBBER.text(text)
    assert MARK in scrubbed
    assert CANARY not in scrubbed
    assert base64.b64encode(CANARY.encode())[:6].decode() not in scrubbed


@given(st.text(max_size=80) | st.text("token=:?@/'\"[]{}(), \\scrubed.bai", max_size=80))
@example("password=[scrubbed] and more")
@example("a?x=1]).")
def test_scrubbing_twice_is_scrubbing_once(text: str) -> None:
    once = SCRUBBER.text(text)
    assert SCRUBBER.text(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "order 5 created in 12.5 ms: ok",
        "GET /api/v1/orders/{order_id} 200",
        "Uvicorn running on http://127.0.0.1:8000 (Press CTRL+C to quit)",
        "see https://host:8443/@someone/page#part",
        "SELECT a, b FROM t WHERE a = ? AND b=?",
        "really? yes/no",
        "a basic mistake, basic auth failed",
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101",
        "mail to someone@example.org: bounced",
        "bypassed: 3, author=Ann, kidsname=Bo",
        "prompt_tokens=512, session_count: 3 (token_ttl=2.5)",
        "see https%3A%2F%2Fhost%2Fpath",
    ],
)
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert SCRUBBER.text(text) == text


@given(st.text("abcdefgh 0123456789.,;!()äöü\n", max_size=200))
def test_prose_stays_as_it_is(text: str) -> None:
    assert SCRUBBER.text(text) == text


def test_what_is_around_a_secret_stays() -> None:
    assert SCRUBBER.text('"GET /a/b?c=d&e=f HTTP/1.1" 200') == '"GET /a/b?[scrubbed] HTTP/1.1" 200'
    assert SCRUBBER.text("host=h user=u password=p port=1") == (
        "host=h user=u password=[scrubbed] port=1"
    )
    assert SCRUBBER.text('{"user": "u", "password": "p", "x": 1}') == (
        '{"user": "u", "password": [scrubbed], "x": 1}'
    )
    assert (
        SCRUBBER.text("(see https://key@sentry.io/1).") == "(see https://[scrubbed]@sentry.io/1)."
    )


@given(secret_names, st.recursive(st.text() | st.integers(), st.lists, max_leaves=3))
def test_a_named_value_is_gone_whatever_it_is(name: str, value: object) -> None:
    assert SCRUBBER.value(name, value) == MARK
    assert SCRUBBER.mapping({"a": [{"b": {name: value}}]}) == {"a": [{"b": {name: MARK}}]}


def test_a_number_that_counts_is_no_secret() -> None:
    counts = {"prompt_tokens": 512, "session_count": 3, "token.ttl": 2.5}
    assert SCRUBBER.mapping(counts) == counts
    secrets = {"token": 512, "password_count": 3, "otp_ttl": 482913, "iban_count": 5}
    assert SCRUBBER.mapping(secrets) == dict.fromkeys(secrets, MARK)
    assert SCRUBBER.mapping({"token_count": "many"}) == {"token_count": MARK}
    assert CANARY not in SCRUBBER.text(f"token_count=5{CANARY} prompt_tokens={CANARY}")


def test_containers_are_searched() -> None:
    class Login(NamedTuple):
        user: str
        password: str

    assert SCRUBBER.mapping(
        {
            "headers": [(b"authorization", CANARY.encode()), ("accept", "*/*")],
            "url": f"https://h/?q={CANARY}",
            "login": Login("ann", CANARY),
            "raw": f"token={CANARY}".encode(),
            "password": None,
            5: 5.5,
        }
    ) == {
        "headers": [["authorization", MARK], ["accept", "*/*"]],
        "url": f"https://h/?{MARK}",
        "login": {"user": "ann", "password": MARK},
        "raw": f"token={MARK}",
        "password": None,
        "5": 5.5,
    }


def test_what_contains_itself_ends() -> None:
    endless: dict[str, Any] = {"name": "x"}
    endless["again"] = [endless]
    assert MARK in json.dumps(SCRUBBER.mapping(endless))


@given(st.text(min_size=4).filter(lambda text: text not in WITHHELD), prose, prose)
def test_a_withheld_text_is_gone_and_only_for_this_one(text: str, before: str, behind: str) -> None:
    withholding = SCRUBBER.withholding([text, f"{text} and more"])
    assert WITHHELD in withholding.text(f"{before}{text} and more{behind}")
    assert WITHHELD not in SCRUBBER.text(before)
    assert withholding.is_secret("iban")


unbarred = st.characters(exclude_characters="|")


@given(
    st.text(unbarred, min_size=30, max_size=90),
    st.integers(20, 90),
    st.text(unbarred, max_size=40),
)
@example("an error with a first line\nand another, which is cut off", 40, "")
@example("a beginning that two texts have, and an end that one has", 50, "x" * 30)
def test_a_withheld_text_is_gone_even_if_its_end_was_cut_off(
    text: str, length: int, like: str
) -> None:
    withholding = SCRUBBER.withholding([text, text[:25] + like, *text.splitlines()])
    assert withholding.text(f"|{text[:length]}|") == f"|{WITHHELD}|"


@given(st.integers(0, 9000), st.integers(0, 9000))
def test_no_half_of_a_secret_is_left_where_a_text_is_cut(before: int, hidden: int) -> None:
    text = f"password={'p' * hidden} {'x' * before} redis://u:{CANARY}@h {'x' * 9000}"
    scrubbed = SCRUBBER.text(text, 2000)
    assert len(scrubbed) <= 2000
    assert CANARY[:3] not in scrubbed


@pytest.mark.parametrize(
    "text", ["x" * 10_000_000, json.dumps({f"token{n}": n for n in range(10**5)})]
)
def test_a_huge_text_costs_no_more_than_what_is_kept_of_it(text: str) -> None:
    started = time.process_time()
    assert len(SCRUBBER.text(text)) <= LONGEST
    assert time.process_time() - started < 0.3


@pytest.mark.parametrize(
    "text",
    [
        *("a", "?", "a:", "token=", "://", "a://x@", "https://x:", "password='", 'token="\\"'),
        *(
            "eyJa.",
            "bearer ",
            "api ",
            "x' ",
            "\\",
            "token:=",
            "%3A%2F%2F",
            ":\\/\\/",
            "%25",
            "-----BEGIN ",
            "Cookie:\n",
            "token=[scrubbed]x",
        ),
    ],
)
def test_hostile_text_costs_no_more_than_its_length(text: str) -> None:
    def seconds(length: int) -> float:
        hostile = (text * length)[:length] + " token @="
        started = time.process_time()
        SCRUBBER.text(hostile)
        return time.process_time() - started

    assert min(seconds(64_000) for _ in range(2)) < 1.5  # its square would take minutes
