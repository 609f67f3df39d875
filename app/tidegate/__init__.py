"""Tidegate: release a FastAPI service without dropping a request or breaking a schema.

Names load on first use: ``import tidegate.schema`` must stay free of FastAPI.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate.carrying import carry as carry
    from tidegate.context import bind_user as bind_user
    from tidegate.context import current_request as current_request
    from tidegate.core import Tidegate as Tidegate
    from tidegate.health import CheckFailedError as CheckFailedError
    from tidegate.work import Worker as Worker
    from tidegate.work import run_worker as run_worker

__all__ = [
    "CheckFailedError",
    "Tidegate",
    "Worker",
    "bind_user",
    "carry",
    "current_request",
    "run_worker",
]

_HOME = {
    "CheckFailedError": "tidegate.health",
    "Tidegate": "tidegate.core",
    "Worker": "tidegate.work",
    "bind_user": "tidegate.context",
    "carry": "tidegate.carrying",
    "current_request": "tidegate.context",
    "run_worker": "tidegate.work",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
