"""The admin port: whether the operator lives, and whether it serves yet.

Bound to every address of the pod, of either IP version.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

__all__ = ["start"]


async def start(
    port: int, stuck: Callable[[], str | None], ready: Callable[[], bool]
) -> web.AppRunner:
    """Serve ``/health/live`` and ``/health/ready`` until the runner is cleaned up.

    An API server that is away makes the operator neither dead nor unready: a restart would not
    bring it back.

    Raises:
        OSError: the port is in use.
    """

    async def live(_request: web.Request) -> web.Response:
        return _answer(stuck())

    async def is_ready(_request: web.Request) -> web.Response:
        return _answer(None if ready() else "the operator is starting")

    app = web.Application()
    app.router.add_get("/health/live", live)
    app.router.add_get("/health/ready", is_ready)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    return runner


def _answer(trouble: str | None) -> web.Response:
    if trouble:
        return web.json_response({"status": "failed", "reason": trouble}, status=503)
    return web.json_response({"status": "ok"})
