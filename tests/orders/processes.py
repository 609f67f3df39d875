"""Processes of the service under test, told by their admin ports."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import httpx


@dataclass
class Served:
    """A process that answers for its health."""

    process: subprocess.Popen[str]
    admin: str

    async def until_ready(self) -> None:
        """Wait until it says that it works."""
        await self.until(lambda answer: answer.status_code == 200)

    async def until(self, satisfied: Callable[[httpx.Response], bool]) -> httpx.Response:
        """Ask /health/ready until its answer satisfies."""
        async with asyncio.timeout(60), httpx.AsyncClient(base_url=self.admin) as client:
            while self.process.poll() is None:
                try:
                    answer = await client.get("/health/ready")
                except httpx.TransportError:
                    pass
                else:
                    if satisfied(answer):
                        return answer
                await asyncio.sleep(0.05)
        raise AssertionError(self.process.communicate()[0])
