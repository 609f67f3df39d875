"""``python -m orders``: what an operator asks of the service beside serving."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from secrets import token_urlsafe

from pydantic import TypeAdapter, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from orders.core.database import create_engine, create_sessions
from orders.core.describe import Described, describe
from orders.core.passwords import Passwords
from orders.core.settings import OrdersSettings
from orders.schemas.text import Email, Password
from orders.services import seed
from tidegate import Settings, SettingsError, read_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    0: done; 1: the database does not let it; 2: settings or arguments are not usable.
    """
    parser = argparse.ArgumentParser(prog="python -m orders")
    commands = parser.add_subparsers(dest="command", required=True)
    settings = commands.add_parser(
        "settings", help="print every setting, where it comes from, and secrets masked"
    )
    settings.add_argument("--json", action="store_true", help="as JSON, with descriptions")
    seeding = commands.add_parser(
        "seed",
        help="make an admin, who can then do the rest over the API",
        description="Make the user of an e-mail address an admin, with a new password: a random "
        "one, shown this once.",
    )
    seeding.add_argument("--admin", metavar="EMAIL", required=True)
    seeding.add_argument(
        "--password-stdin", action="store_true", help="take the first line of standard input"
    )
    commands.add_parser(
        "worker", help="run the tasks of the queue until SIGTERM (health on TIDEGATE_ADMIN_PORT)"
    )
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "seed":
            return _seed(chosen.admin, _given_password() if chosen.password_stdin else None)
        if chosen.command == "worker":
            from orders import worker  # with all that tasks need, and the other commands do not

            return worker.main(read_settings(OrdersSettings))
        return _settings(as_json=chosen.json)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2


def _given_password() -> str:
    return sys.stdin.readline().rstrip("\r\n")


def _seed(email: str, given: str | None) -> int:
    password = token_urlsafe(18) if given is None else given
    try:
        email = TypeAdapter(Email).validate_python(email)
        TypeAdapter(Password).validate_python(password)
    except ValidationError as error:
        reasons = "; ".join(each["msg"] for each in error.errors(include_input=False))
        print(f"seed: the e-mail address or the password will not do: {reasons}", file=sys.stderr)
        return 2
    try:
        asyncio.run(_make_admin(read_settings(OrdersSettings), email, password))
    except (OSError, SQLAlchemyError) as error:
        print(
            f"seed: the database does not let it ({type(error).__name__}: "
            f"{str(error).partition(chr(10))[0]}); is it there, and migrated "
            "(`tidegate migrate up`)?",
            file=sys.stderr,
        )
        return 1
    print(f"{email} is an admin", file=sys.stderr)
    if given is None:
        print(password)
    return 0


async def _make_admin(settings: OrdersSettings, email: str, password: str) -> None:
    engine = create_engine(settings)
    try:
        async with create_sessions(engine)() as session:
            passwords = Passwords(settings.password_hashes_at_once)
            await seed.admin(session, passwords, email, password)
    finally:
        await engine.dispose()


def _settings(*, as_json: bool) -> int:
    variables = [name for name, value in os.environ.items() if value]
    described = [
        *describe(read_settings(OrdersSettings), variables),
        *describe(read_settings(Settings), variables),
    ]
    if as_json:
        print(json.dumps([asdict(each) for each in described], indent=2))
    else:
        print("\n".join(_lines(described)))
    return 0


def _lines(described: Sequence[Described]) -> list[str]:
    longest = max(len(each.variable) for each in described)
    return [
        f"{each.variable:<{longest}}  {each.source:<11}  {_one_line(each)}" for each in described
    ]


def _one_line(each: Described) -> str:
    match each.value:
        case None:
            return ""
        case list():
            return ",".join(each.value)
        case bool():
            return str(each.value).lower()
        case _:
            return str(each.value).replace("\n", " ")
