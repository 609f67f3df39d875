"""Tidegate: release a FastAPI service without dropping a request or breaking a schema.

Names load on first use: ``import tidegate.schema`` must stay free of FastAPI.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate.carrying import carry as carry
    from tidegate.context import bind_user as bind_user
    from tidegate.context import current_request as current_request
    from tidegate.core import Tidegate as Tidegate
    from tidegate.database import asyncpg_url as asyncpg_url
    from tidegate.health import CheckFailedError as CheckFailedError
    from tidegate.settings import Settings as Settings
    from tidegate.settings import SettingsError as SettingsError
    from tidegate.settings import read_settings as read_settings
    from tidegate.websockets import hand_over as hand_over
    from tidegate.work import Worker as Worker
    from tidegate.work import run_worker as run_worker

__all__ = [
    "CheckFailedError",
    "Settings",
    "SettingsError",
    "Tidegate",
    "Worker",
    "asyncpg_url",
    "bind_user",
    "carry",
    "current_request",
    "hand_over",
    "read_settings",
    "run_worker",
]

_HOME = {
    "CheckFailedError": "tidegate.health",
    "Settings": "tidegate.settings",
    "SettingsError": "tidegate.settings",
    "Tidegate": "tidegate.core",
    "Worker": "tidegate.work",
    "asyncpg_url": "tidegate.database",
    "bind_user": "tidegate.context",
    "carry": "tidegate.carrying",
    "current_request": "tidegate.context",
    "hand_over": "tidegate.websockets",
    "read_settings": "tidegate.settings",
    "run_worker": "tidegate.work",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
