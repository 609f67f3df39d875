"""The service keeps to its own OpenAPI document, whatever is sent: no 5xx, no undeclared answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import schemathesis
import schemathesis.specs.openapi.schemas  # now: Python 3.11 cannot compile in two threads at once
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis import Case, GenerationMode, HookContext
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.transport.requests import ManagedCookiesSession

from orders.core.access import Role
from orders.core.database import create_engine, create_sessions
from orders.core.settings import OrdersSettings
from orders.main import create_app
from orders.models import User
from tests.orders.conftest import settings_of, speak_as
from tests.orders.factories import make_order, make_product, make_user, principal_of
from tests.ports import free_ports

AnyCase = Case[Any]
ENDLESS = "/api/v1/events"  # test_streams.py listens to it
KNOWN = {name: str(uuid4()) for name in ("user_id", "product_id", "order_id")}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@dataclass(frozen=True)
class Asked:
    """What one operation is asked, in one mode."""

    operation: str
    mode: str
    cases: list[AnyCase]


@pytest.fixture(scope="module")
def questions() -> list[Asked]:
    """What everybody asks: thinking of it costs more than asking it."""
    document = create_app(settings_of("postgresql://nobody@/nothing")).openapi()
    schema = schemathesis.openapi.from_dict(document)

    @schema.hook
    def map_path_parameters(
        _: HookContext, parameters: dict[str, str] | None
    ) -> dict[str, str] | None:
        # Every other id is one that exists; nobody finds those by chance.
        return parameters and {
            name: KNOWN.get(name, value) if str(value)[-1:] in "02468ace" else value
            for name, value in parameters.items()
        }

    asked: list[Asked] = []
    for found in schema.exclude(path=ENDLESS).get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        takes_something = {"parameters", "requestBody"} & operation.definition.raw.keys()
        for mode in GenerationMode if takes_something else [GenerationMode.POSITIVE]:
            cases = drawn(operation.as_strategy(generation_mode=mode))
            asked.append(Asked(operation.label, mode.value, cases))
    return asked


def drawn(strategy: SearchStrategy[AnyCase]) -> list[AnyCase]:
    """Draw some that differ."""
    cases: list[AnyCase] = []

    @given(strategy)
    @settings(
        max_examples=6,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def draw(case: AnyCase) -> None:
        cases.append(case)

    draw()
    return cases


@pytest.fixture(params=["admin", "customer", "nobody"])
def url(request: pytest.FixtureRequest, own_url: str, tmp_path: Path) -> Iterator[str]:
    """The service, which takes every request for one of these."""
    wanted = settings_of(own_url, files_directory=tmp_path)
    admin, customer = asyncio.run(filled(wanted))
    who = {"admin": admin, "customer": customer}.get(request.param)
    with served(wanted) as (url, app):
        speak_as(app, principal_of(who) if who else None)
        yield url


async def filled(wanted: OrdersSettings) -> tuple[User, User]:
    """Store something of everything; return who may ask."""
    engine = create_engine(wanted)
    async with create_sessions(engine)() as session:
        admin, customer = await make_user(session, role=Role.ADMIN), await make_user(session)
        product = await make_product(session, id=UUID(KNOWN["product_id"]), stock=10**6)
        await make_order(session, customer, product, id=UUID(KNOWN["order_id"]))
        await make_user(session, id=UUID(KNOWN["user_id"]))
    await engine.dispose()
    return admin, customer


@contextmanager
def served(wanted: OrdersSettings) -> Iterator[tuple[str, FastAPI]]:
    """The service on a port of its own: its pool needs an event loop that stays."""
    port, admin_port = free_ports()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIDEGATE_LOG_FORMAT", "off")
        patch.setenv("TIDEGATE_HOST", "127.0.0.1")
        patch.setenv("TIDEGATE_ADMIN_PORT", str(admin_port))
        app = create_app(wanted)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, ws="none")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}", app
    finally:
        server.should_exit = True
        thread.join()


def test_every_answer_is_declared_and_none_is_a_fault(
    questions: list[Asked], url: str, subtests: pytest.Subtests
) -> None:
    with ManagedCookiesSession() as session:
        session.trust_env = False  # a look at the environment for each request
        for asked in questions:
            with subtests.test(asked.operation, mode=asked.mode):
                for case in asked.cases:
                    case.call_and_validate(url, session, checks=CHECKS, timeout=30)
