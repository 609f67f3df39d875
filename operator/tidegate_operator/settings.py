"""The operator's settings: environment variables in, a dataclass out. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Settings"]

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LEVELS = ("debug", "info", "warning")


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``tidegate-operator`` can be told."""

    namespaces: tuple[str, ...] = ()
    """The namespaces to serve; empty for all of them."""
    admin_port: int = 9000
    log_format: Literal["json", "plain"] = "plain"
    log_level: str = "info"

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the settings.

        Raises:
            ValueError: a variable has a value that cannot be meant; the message says which.
        """
        namespaces = [part.strip() for part in env.get("WATCH_NAMESPACES", "").split(",")]
        namespaces = [part for part in namespaces if part]
        for part in namespaces:
            if not _NAMESPACE.fullmatch(part):
                raise ValueError(
                    f"WATCH_NAMESPACES holds {part!r}, which is no namespace's name. Write names "
                    "with commas between them; leave it empty to serve every namespace."
                )
        port = env.get("TIDEGATE_ADMIN_PORT") or "9000"
        if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(f"TIDEGATE_ADMIN_PORT is {port!r}; set it to a port, 1 to 65535.")
        log_format = env.get("TIDEGATE_LOG_FORMAT") or "plain"
        if log_format not in ("json", "plain"):
            raise ValueError(f"TIDEGATE_LOG_FORMAT is {log_format!r}; set it to json or plain.")
        log_level = (env.get("TIDEGATE_LOG_LEVEL") or "info").lower()
        if log_level not in _LEVELS:
            raise ValueError(
                f"TIDEGATE_LOG_LEVEL is {log_level!r}; set it to one of {', '.join(_LEVELS)}."
            )
        return cls(
            tuple(dict.fromkeys(namespaces)),
            int(port),
            "json" if log_format == "json" else "plain",
            log_level,
        )
