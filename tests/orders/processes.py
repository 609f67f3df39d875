"""Processes of the service under test, told by their admin ports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from tests.orders.forked import Forked


@dataclass
class Served:
    """A process that answers for its health."""

    process: Forked
    admin: str

    async def until_ready(self) -> None:
        """Wait until it says that it works."""
        await self.until(lambda answer: answer.status_code == 200)

    async def until(self, satisfied: Callable[[httpx.Response], bool]) -> httpx.Response:
        """Ask /health/ready until its answer satisfies."""
        async with asyncio.timeout(60), httpx.AsyncClient(base_url=self.admin) as client:
            while self.process.code is None:
                try:
                    answer = await client.get("/health/ready")
                except httpx.TransportError:
                    pass
                else:
                    if satisfied(answer):
                        return answer
                await asyncio.sleep(0.05)
        raise AssertionError(self.process.wait())

    def kill(self) -> None:
        """End it without a word, as a lost node does."""
        self.process.kill()
        self.process.wait()

    async def terminate(self) -> str:
        """End it as Kubernetes does, and see it end well; return what it has logged."""
        self.process.terminate()
        output = await asyncio.to_thread(self.process.wait)
        assert self.process.code == 0, output
        return output


def end_all(served: Sequence[Served]) -> None:
    """Kill what is left of a test."""
    for each in served:
        each.process.forget()
