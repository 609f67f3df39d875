"""The service keeps to its own OpenAPI document, whatever is sent: no 5xx, no undeclared answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
import schemathesis
import schemathesis.specs.openapi.schemas  # now: Python 3.11 cannot compile in two threads at once
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis import BaseSchema, Case, GenerationMode, HookContext
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from orders.core.access import Role
from orders.core.database import create_engine, create_sessions
from orders.core.settings import OrdersSettings
from orders.main import create_app
from orders.models import User
from tests.orders.conftest import settings_of, speak_as
from tests.orders.databases import copy_database
from tests.orders.factories import make_order, make_product, make_user, principal_of
from tests.ports import free_ports
from tests.postgres import drop_database

AnyCase = Case[Any]
ENDLESS = "/api/v1/events"  # test_streams.py listens to it
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module", params=["admin", "customer", "nobody"])
def contract(
    request: pytest.FixtureRequest,
    postgres: str,
    orders_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[BaseSchema]:
    """The document, as one who asks for it finds it."""
    name = f"contract_{uuid4().hex}"
    files = tmp_path_factory.mktemp("files")
    wanted = settings_of(copy_database(postgres, orders_template, name), files_directory=files)
    admin, customer, known = asyncio.run(filled(wanted))
    who = {"admin": admin, "customer": customer}.get(request.param)
    with served(wanted) as (url, app):
        speak_as(app, principal_of(who) if who else None)
        schema = schemathesis.openapi.from_url(f"{url}/api/openapi.json")

        @schema.hook
        def map_path_parameters(
            _: HookContext, parameters: dict[str, str] | None
        ) -> dict[str, str] | None:
            # Every other id is one that exists; nobody finds those by chance.
            return parameters and {
                name: known.get(name, value) if str(value)[-1:] in "02468ace" else value
                for name, value in parameters.items()
            }

        yield schema
    drop_database(postgres, name)


async def filled(wanted: OrdersSettings) -> tuple[User, User, dict[str, str]]:
    """Store something of everything; return who may ask, and what they can find."""
    engine = create_engine(wanted)
    async with create_sessions(engine)() as session:
        admin, customer = await make_user(session, role=Role.ADMIN), await make_user(session)
        product = await make_product(session, stock=10**6)
        order = await make_order(session, customer, product)
        other = await make_user(session)
    await engine.dispose()
    ids = {"user_id": other.id, "product_id": product.id, "order_id": order.id}
    return admin, customer, {name: str(value) for name, value in ids.items()}


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
    contract: BaseSchema, subtests: pytest.Subtests
) -> None:
    for found in contract.exclude(path=ENDLESS).get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        takes_something = {"parameters", "requestBody"} & operation.definition.raw.keys()
        for mode in GenerationMode if takes_something else [GenerationMode.POSITIVE]:
            with subtests.test(operation.label, mode=mode.value):
                ask(operation.as_strategy(generation_mode=mode))


def ask(cases: SearchStrategy[AnyCase]) -> None:
    @given(cases)
    @settings(
        max_examples=6,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: AnyCase) -> None:
        case.call_and_validate(checks=CHECKS, timeout=30)

    check()
