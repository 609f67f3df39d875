"""`python -m orders worker`: wires the process that runs tasks, and does nothing else."""

from __future__ import annotations

from orders.core.cache import Cache
from orders.core.database import create_engine, create_sessions
from orders.core.settings import OrdersSettings
from orders.core.shared import Shared
from orders.outbound.payment_provider import open_provider
from orders.tasks.catalogue import TASKS
from orders.tasks.runner import work
from orders.tasks.task import Resources
from tidegate import SettingsError, Worker, run_worker


def main(settings: OrdersSettings) -> int:
    """Work until SIGTERM; return the exit code.

    Raises:
        SettingsError: there is no way to listen to the database.
    """
    if settings.database_pooler and settings.direct_url is None:
        raise SettingsError(
            "DIRECT_URL is not set, and APP_DATABASE_POOLER says that DATABASE_URL leads through "
            "a pooler, which forgets listeners: set it to the database past the pooler"
        )
    engine = create_engine(settings)
    shared = Shared(settings.cache_url.get_secret_value()) if settings.cache_url else None
    cache = Cache(settings.cache_seconds, shared)  # which it does not read, and its writes end

    async def run(worker: Worker) -> None:
        try:
            async with open_provider(settings) as payments:
                resources = Resources(create_sessions(engine, cache.forget), payments)
                await work(worker, settings, resources, TASKS)
        finally:
            if shared:
                await shared.close()
            await engine.dispose()

    return run_worker(run, name="orders-worker", engine=engine)
