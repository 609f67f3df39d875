"""``tidegate serve MODULE:APP``: one uvicorn process, or gunicorn with several of them.

What imports prometheus_client is imported late: it decides at its import whether several
processes share their metrics.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tidegate import logs, metrics_folder
from tidegate.otel_environment import read_propagators
from tidegate.ports import bind
from tidegate.settings import Settings, SettingsError, misspelt_variables, read_settings

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from tidegate.core import Tidegate

logger = logging.getLogger("uvicorn.error")

_MOST_WORKERS: Final = 256
_FAILED: Final = 3  # the exit code for an application that cannot start, as uvicorn has it


class NoAppError(Exception):
    """MODULE:APP names something that cannot be served."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal; return the exit code.

    2: nothing could be served; 3: the application failed to be imported or to start.
    """
    parser = argparse.ArgumentParser(
        prog="tidegate serve", description="Serve a FastAPI application that uses Tidegate(app)."
    )
    parser.add_argument("app", metavar="MODULE:APP", help="for example orders.main:app")
    parser.add_argument(
        "--workers",
        metavar="N",
        help="processes that share the ports, under gunicorn; default: WEB_CONCURRENCY, or 1",
    )
    arguments = parser.parse_args(argv)
    sys.path.insert(0, str(Path.cwd()))  # as uvicorn does: an app beside us needs no install
    try:
        with ExitStack() as stack:
            workers = _count_workers(arguments.workers)
            if workers > 1 or os.environ.get(metrics_folder.VARIABLE):
                stack.enter_context(metrics_folder.metrics_folder())
            return _serve(arguments.app, workers)
    except (NoAppError, SettingsError) as error:
        print(f"tidegate serve: {error}", file=sys.stderr)
        return 2


def _count_workers(given: str | None) -> int:
    name = "--workers" if given is not None else "WEB_CONCURRENCY"
    text = given if given is not None else os.environ.get("WEB_CONCURRENCY") or "1"
    # isascii: isdecimal alone lets other scripts' digits through.
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= _MOST_WORKERS):
        raise SettingsError(
            f"{name}: {text!r} is no number of workers; write a whole number from 1 to "
            f"{_MOST_WORKERS}"
        )
    return int(text)


def _serve(target: str, workers: int) -> int:
    read_propagators()  # FastAPI's import of them would end in a traceback
    app, installed = _find(target)
    if workers > 1:
        try:
            from tidegate.workers import run_workers
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("gunicorn"):
                raise
            raise SettingsError(
                f"{workers} workers need the package gunicorn, which is not installed; "
                "install tidegate[workers], or serve with one"
            ) from None
    settings = installed.settings
    listener = bind(settings.host, settings.port, "PORT")
    admin = installed.admin.bind()
    config = _configure(app, settings)
    logs.install(settings)  # after uvicorn's own
    for message in misspelt_variables(os.environ):
        logger.warning("%s", message)
    logger.info("Serving http://%s, health and metrics on %s", _name(listener), _name(admin))
    from tidegate.drain import DrainingServer

    # All is imported: an end from here on may take its time, with what is done at exit.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if workers > 1:
        return run_workers(config, installed, listener, workers)
    server = DrainingServer(config, installed)
    server.run(sockets=[listener])
    return 0 if server.started or server.should_exit else _FAILED


def _find(target: str) -> tuple[FastAPI, Tidegate]:
    from fastapi import FastAPI
    from uvicorn.importer import ImportFromStringError, import_from_string

    from tidegate.core import Tidegate

    try:
        app = import_from_string(target)
    except ImportFromStringError as error:
        raise NoAppError(str(error)) from None
    except SettingsError:
        raise
    except Exception as error:  # which Python would print with its text: often the database's URL
        logs.install(read_settings(Settings))
        logger.critical(
            "%s cannot be imported; mend what the exception names "
            "(TIDEGATE_EXCEPTION_TEXT=true tells its text)",
            target,
            exc_info=error,
        )
        raise SystemExit(_FAILED) from None
    installed = getattr(getattr(app, "state", None), "tidegate", None)
    if not isinstance(app, FastAPI) or not isinstance(installed, Tidegate):
        raise NoAppError(f"{target} is no FastAPI application with Tidegate(app) installed")
    return app, installed


def _configure(app: FastAPI, settings: Settings) -> uvicorn.Config:
    import uvicorn

    from tidegate.http_protocol import BoundedHttpProtocol
    from tidegate.websocket_protocol import LeanWebSocketProtocol

    return uvicorn.Config(
        app,
        access_log=False,
        server_header=False,
        http=BoundedHttpProtocol,
        # The others take 12 kB more for each connection, and compression up to 90 kB.
        ws=LeanWebSocketProtocol,
        ws_per_message_deflate=False,
        ws_max_size=settings.ws_max_size,
        lifespan="on",  # ours is always there; with "auto", one that fails goes unsaid
        reset_contextvars=True,  # else a pipelined request begins with those of the one before
        workers=1,  # what WEB_CONCURRENCY says is decided here, not by uvicorn
    )


def _name(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
