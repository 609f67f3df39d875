"""Tidegate: release a FastAPI service without dropping a request or breaking a schema.

Names load on first use: ``import tidegate.schema`` must stay free of FastAPI.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate.context import bind_user as bind_user
    from tidegate.context import current_request as current_request
    from tidegate.core import Tidegate as Tidegate
    from tidegate.health import CheckFailedError as CheckFailedError

__all__ = ["CheckFailedError", "Tidegate", "bind_user", "current_request"]

_HOME = {
    "CheckFailedError": "tidegate.health",
    "Tidegate": "tidegate.core",
    "bind_user": "tidegate.context",
    "current_request": "tidegate.context",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
