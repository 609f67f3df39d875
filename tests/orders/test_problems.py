"""Every error is problem+json: it says what and why, and repeats nothing it was sent."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from psycopg.sql import SQL, Identifier
from pydantic import BaseModel, TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.exceptions import HTTPException
from starlette.types import Message

from orders.api.deps import Session
from orders.core import errors
from orders.core.database import transaction
from orders.core.errors import Problem, explain_validation
from orders.core.openapi import complete
from tests.orders.conftest import Start, client_of
from tests.orders.factories import make_user
from tests.sinks.otlp_sink import silent_port

REGISTER = "/api/v1/auth/register"
SECRET = "hunter2-hunter2-hunter2"


def problem(answer: httpx.Response, status: int) -> Problem:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = Problem.model_validate_json(answer.content)
    assert told.status == status
    assert told.detail
    return told


async def post(
    client: httpx.AsyncClient, content: bytes, content_type: str = "application/json"
) -> httpx.Response:
    return await client.post(REGISTER, content=content, headers={"content-type": content_type})


async def test_no_such_path_and_no_such_method(client: httpx.AsyncClient) -> None:
    problem(await client.get("/api/v1/nothing"), 404)
    answer = await client.delete(REGISTER)
    problem(answer, 405)
    assert answer.headers["allow"] == "POST"
    answer = await client.put("/api/v1/orders")
    problem(answer, 405)
    assert answer.headers["allow"] == "GET, POST"


async def test_no_such_websocket(app: FastAPI) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/api/v1/nothing", "query_string": b"", "headers": []}
    await app({**scope, "extensions": {"websocket.http.response": {}}}, receive, send)
    start, body = sent
    assert start["type"] == "websocket.http.response.start"
    problem(httpx.Response(start["status"], headers=start["headers"], content=body["body"]), 404)


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b'{"password": "%s", ' % SECRET.encode(), 400, "no JSON: Expecting property name"),
        (b"[" * 15_000, 400, "nested too deeply"),
        (b'{"name": ' + b'{"a":' * 3_000, 400, "nested too deeply"),
        (b'{"name": ' + b"9" * 5_000 + b"}", 400, "too many digits"),
        (b'{"name": "\xff"}', 400, "not UTF-8"),
        (b"", 422, "malformed"),
        (b"null", 422, "malformed"),
        (b"[1]", 422, "malformed"),
        (b'{"name": NaN, "email": Infinity, "password": -Infinity}', 422, "3 part(s)"),
        (b'{"\\ud800": "\\udfff"}', 422, "malformed"),
    ],
)
async def test_a_body_that_cannot_be_read_says_why(
    client: httpx.AsyncClient, content: bytes, status: int, words: str
) -> None:
    answer = await post(client, content)
    assert words in problem(answer, status).detail
    assert SECRET not in answer.text


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "multipart/form-data"])
async def test_a_body_of_another_content_type_is_415(
    client: httpx.AsyncClient, content_type: str
) -> None:
    told = problem(await post(client, b'{"name": "Ann"}', content_type), 415)
    assert "application/json" in told.detail


async def test_no_value_of_a_malformed_body_comes_back(client: httpx.AsyncClient) -> None:
    body = {"email": SECRET, "name": SECRET * 10, "password": [SECRET], "token": SECRET}
    answer = await client.post(REGISTER, json=body)
    told = problem(answer, 422)
    assert [error.field for error in told.errors or []] == [
        "body.email",
        "body.name",
        "body.password",
        "body.token",
    ]
    assert SECRET not in answer.text


async def test_many_malformed_fields_are_told_in_part(client: httpx.AsyncClient) -> None:
    told = problem(await client.post(REGISTER, json={f"{n}" * 60: n for n in range(100)}), 422)
    assert len(told.errors or []) == 20
    assert "first 20" in told.detail
    assert all(len(error.field) < 120 for error in told.errors or [])


async def test_a_flood_of_malformed_fields_is_counted_and_not_told(
    client: httpx.AsyncClient,
) -> None:
    told = problem(await client.post(REGISTER, json=dict.fromkeys(map(str, range(400)), 1)), 422)
    (error,) = told.errors or []
    assert (error.field, error.code) == ("body", "too_many_errors")
    assert error.reason == "403 parts of it are malformed, too many to name"


class Anything(BaseModel, extra="forbid"):
    number: int
    texts: dict[str, list[float]]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters()),
    lambda children: st.lists(children) | st.dictionaries(st.text(st.characters()), children),
    max_leaves=10,
)


@given(JSON)
def test_whatever_is_malformed_can_be_told(value: object) -> None:
    try:
        TypeAdapter(Anything).validate_python(value)
    except ValueError as error:
        told = explain_validation(error.errors(), value)  # type: ignore[attr-defined]
        assert Problem.model_validate_json(bytes(told.body)).errors


@pytest.fixture
def probe(app: FastAPI) -> FastAPI:
    """Routes that go wrong in ways the service's own must not."""
    probe = FastAPI()
    probe.state.sessions = app.state.sessions
    errors.install(probe, {"uq_users_email": "taken"})

    @probe.get("/fault")
    async def fault() -> None:
        raise RuntimeError(SECRET)

    @probe.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "short and stout", headers={"x-spout": "here"})

    @probe.post("/sql")
    async def sql(statement: str, session: Session) -> None:
        async with transaction(session):
            await session.execute(text(statement))

    return probe


async def test_a_fault_is_a_500_that_tells_nothing_of_it(probe: FastAPI) -> None:
    async with client_of(probe) as client:
        answer = await client.get("/fault")
        told = problem(answer, 500)
        assert "X-Request-ID" in told.detail
        assert SECRET not in answer.text
        assert "Traceback" not in answer.text
        answer = await client.get("/teapot")
        assert problem(answer, 418).detail == "short and stout"
        assert answer.headers["x-spout"] == "here"


@pytest.mark.parametrize(
    ("statement", "status", "detail"),
    [
        (
            "INSERT INTO users (email, name, password_hash) SELECT email, 'x', 'x' FROM users",
            409,
            "taken",
        ),
        (
            "INSERT INTO api_keys (user_id, name, prefix, key_hash, scopes) "
            "VALUES (gen_random_uuid(), 'x', 'x', 'x', '{}')",
            401,
            "your user was deleted at this moment",
        ),
        (
            "INSERT INTO order_lines (order_id, product_id, quantity, unit_price_cents) "
            "SELECT gen_random_uuid(), gen_random_uuid(), 1, 1",
            409,
            None,
        ),
        (
            "INSERT INTO products (sku, name, price_cents, stock) VALUES ('a', 'a', -1, 1)",
            409,
            "it contradicts what is stored (constraint ck_products_price_not_negative)",
        ),
        ("INSERT INTO users (email) VALUES (NULL)", 500, None),
        ("SELECT 1/0", 500, None),
        ("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$", 503, None),
        ("DO $$ BEGIN RAISE SQLSTATE '57P03'; END $$", 503, "the database does not answer"),
    ],
)
async def test_what_the_database_refuses_is_told_at_the_boundary(
    probe: FastAPI, session: AsyncSession, statement: str, status: int, detail: str | None
) -> None:
    await make_user(session)
    async with client_of(probe) as client:
        answer = await client.post("/sql", params={"statement": statement})
        told = problem(answer, status)
        assert detail is None or told.detail == detail
        assert (answer.headers.get("retry-after") == "2") == (status == 503)
        assert "INSERT" not in answer.text
        # What was refused is rolled back, and the next request finds everything as it was.
        assert (await client.post("/sql", params={"statement": "SELECT 1"})).status_code == 200


async def test_a_database_that_is_away_is_a_503_and_it_comes_back_by_itself(
    start: Start, own_url: str, postgres: str
) -> None:
    live = start(database_pool_timeout=5)
    assert (await live.client.get("/api/v1/products")).status_code == 200
    name = own_url.partition("@/")[2].partition("?")[0]
    with psycopg.connect(postgres, autocommit=True) as admin:
        close = SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        admin.execute(close.format(Identifier(name), SQL("false")))
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        for path in ("/api/v1/products", "/api/v1/products"):
            answer = await live.client.get(path)
            assert problem(answer, 503).detail == "the database does not answer"
            assert answer.headers["retry-after"] == "2"
        admin.execute(close.format(Identifier(name), SQL("true")))
    assert (await live.client.get("/api/v1/products")).status_code == 200


@pytest.mark.parametrize("url", ["silent", "closed"])
async def test_a_server_that_does_not_answer_costs_no_more_than_the_pools_time_out(
    start: Start, url: str
) -> None:
    with silent_port() as silent:
        port = silent.rpartition(":")[2] if url == "silent" else "1"
        live = start(DATABASE_URL=f"postgresql://u@127.0.0.1:{port}/d", database_pool_timeout=0.5)
        async with asyncio.timeout(5):
            problem(await live.client.get("/api/v1/products"), 503)


async def test_an_exhausted_pool_and_a_statement_that_takes_too_long_are_503(
    start: Start,
) -> None:
    live = start(database_pool_size=1, database_pool_timeout=0.2, database_command_timeout=0.3)
    async with live.sessions() as session:
        await session.execute(text("SELECT 1"))
        problem(await live.client.get("/api/v1/products"), 503)
    async with live.sessions() as session:
        await session.execute(text("SELECT 1"))
    other = start()
    async with other.sessions() as session:
        await session.execute(text("LOCK TABLE products"))
        async with asyncio.timeout(10):
            problem(await live.client.get("/api/v1/products"), 503)
    assert (await live.client.get("/api/v1/products")).status_code == 200


async def test_the_document_declares_every_error_as_a_problem(client: httpx.AsyncClient) -> None:
    document = (await client.get("/api/openapi.json")).json()
    assert "HTTPValidationError" not in json.dumps(document)
    assert {"Problem", "FieldProblem"} <= document["components"]["schemas"].keys()
    operations: dict[str, Any] = {
        operation["operationId"]: operation
        for path in document["paths"].values()
        for operation in path.values()
    }
    for operation in operations.values():
        assert {"429", "500", "503"} <= operation["responses"].keys()
        assert operation["summary"]
        assert operation["tags"]
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert [*response["content"]] == ["application/problem+json"]
            assert response["description"]
    declared = {name: {*operation["responses"]} for name, operation in operations.items()}
    assert declared["register"] == {"201", "400", "409", "413", "415", "422", "429", "500", "503"}
    assert declared["login"] == declared["register"] - {"201", "409"} | {"200", "401", "403"}
    assert declared["list_users"] == {"200", "401", "403", "422", "429", "500", "503"}


def test_a_route_that_takes_nothing_declares_nothing_it_cannot_answer() -> None:
    document = {"paths": {"/x": {"get": {"responses": {"200": {"description": "Fine."}}}}}}
    assert {*complete(document)["paths"]["/x"]["get"]["responses"]} == {"200", "429", "500", "503"}
