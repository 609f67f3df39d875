"""Whether the OpenAPI document has said that a route may answer so."""

from __future__ import annotations

import re
from typing import Any

import httpx


class Declared:
    """Looks at each answer that a client gets; where nothing is served, nothing is declared."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._paths = [
            (re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), operations)
            for path, operations in document["paths"].items()
        ]

    async def __call__(self, answer: httpx.Response) -> None:
        """Fail if the answer's status is not among those of its operation."""
        request = answer.request
        for path, operations in self._paths:
            operation = operations.get(request.method.lower())
            if operation and path.fullmatch(request.url.path):
                asked = f"{request.method} {request.url.path}"
                assert str(answer.status_code) in operation["responses"], (
                    f"{asked} has answered {answer.status_code}, which its document does not name"
                )
                return
