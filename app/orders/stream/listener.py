"""Hears the database's notifications, on one connection of the process's own.

Past any pooler (``DIRECT_URL``): LISTEN belongs to a connection. Nothing depends on it but speed:
what it does not hear is found by the next look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import asyncpg

from orders.core.direct import connect_arguments
from orders.core.settings import OrdersSettings
from orders.tasks.retry import Retry
from tidegate import CheckFailedError

log = logging.getLogger(__name__)

ORDER_EVENTS: Final = "order_events"
ACCESS_CHANGED: Final = "access_changed"

_RECONNECT: Final = Retry(timedelta(seconds=0.5), timedelta(seconds=15), attempts=None)
_PROBE_EVERY: Final = 10.0
"""Seconds: a connection whose other end is gone without a word says nothing by itself."""
_AWAY: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


class Listener:
    """Calls ``heard(channel)`` for each notification, and for both after it has connected."""

    def __init__(self, settings: OrdersSettings, heard: Callable[[str], None]) -> None:
        self._settings = settings
        self._heard = heard
        self._why_not = "it has not connected yet"

    async def check(self) -> None:
        """Say why notifications are not heard.

        Raises:
            CheckFailedError: they are not; events come some seconds late.
        """
        if self._why_not:
            raise CheckFailedError(f"events are late, by polling: {self._why_not}")

    async def listen(self) -> None:
        """Stay connected until cancelled."""
        if self._settings.database_pooler and self._settings.direct_url is None:
            self._why_not = (
                "DIRECT_URL is not set, and the pooler that APP_DATABASE_POOLER speaks of forgets "
                "listeners; set it to the database past the pooler"
            )
            log.warning("%s", self._why_not)
            return
        failures = 0
        while True:
            try:
                await self._listen_once()
            except _AWAY as error:
                failures = 1 if not self._why_not else failures + 1
                self._why_not = (
                    f"DIRECT_URL, or else DATABASE_URL, does not answer ({type(error).__name__})"
                )
                if failures == 1:
                    log.warning("%s; trying again until it does", self._why_not)
                await asyncio.sleep(_RECONNECT.pause(failures, 1.0).total_seconds())

    async def _listen_once(self) -> None:
        patience = self._settings.database_command_timeout
        connection = await asyncpg.connect(
            **connect_arguments(self._settings),
            timeout=patience,
            command_timeout=patience,
            server_settings={"application_name": "orders-listener"},
        )
        try:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            for channel in (ORDER_EVENTS, ACCESS_CHANGED):
                await connection.add_listener(channel, self._hear)
            self._why_not = ""
            # What was said before is said to nobody: look now.
            self._heard(ORDER_EVENTS)
            self._heard(ACCESS_CHANGED)
            while not lost.is_set():
                try:
                    async with asyncio.timeout(_PROBE_EVERY):
                        await lost.wait()
                except TimeoutError:
                    await connection.execute("SELECT 1")
            raise ConnectionResetError("the database has closed the connection")
        finally:
            connection.terminate()

    def _hear(self, _: object, __: int, channel: str, ___: object) -> None:
        self._heard(channel)
