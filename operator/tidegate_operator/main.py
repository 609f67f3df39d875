"""The entry of ``tidegate-operator``: settings, logs, health, and then kopf."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import sys
from collections.abc import Iterator

import kopf

import tidegate_operator.handlers  # noqa: F401 - registers the handlers
from tidegate_operator import health
from tidegate_operator.gates import Gates
from tidegate_operator.kube import GROUP, PLURAL, ApiError, Kube, credentials
from tidegate_operator.models import GATE_LABEL
from tidegate_operator.settings import Settings

__all__ = ["main"]

logger = logging.getLogger("tidegate.operator")

CRD_WAIT = 60.0


class _ForEver:
    """Delays between tries that never run out: the operator outlives an API server's outage."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 2, 4, 8, 15), itertools.repeat(30))


def kopf_settings() -> kopf.OperatorSettings:
    """Tell kopf to write nothing, to find out nothing, and not to wait for ever."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False  # needs no verb on events
    settings.scanning.disabled = True  # needs no verb on namespaces and CRDs
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.label_selectors["batch", "v1", "jobs"] = GATE_LABEL
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = _ForEver()
    settings.process.ultimate_exiting_timeout = 20
    return settings


@kopf.on.login()
async def login(settings: kopf.OperatorSettings, **_: object) -> kopf.ConnectionInfo:
    return credentials(settings)


@kopf.on.cleanup()
async def cleanup(memo: kopf.Memo, **_: object) -> None:
    gates: Gates = memo.gates
    await gates.close()


async def operate(settings: Settings) -> None:
    """Run the operator until it is told to stop."""
    configured = kopf_settings()
    kube = Kube(configured)
    gates = Gates(kube)
    started = asyncio.Event()
    try:
        probes = await health.start(settings.admin_port, gates.stuck, started.is_set)
    except OSError as error:
        raise SystemExit(
            f"tidegate-operator: port {settings.admin_port} cannot be opened ({error}). "
            "Set TIDEGATE_ADMIN_PORT to another one."
        ) from None
    try:
        await _wait_for_crd(kube)
        logger.info(
            "Serving the SchemaGates of %s.", ", ".join(settings.namespaces) or "every namespace"
        )
        await kopf.operator(
            settings=configured,
            memo=kopf.Memo(gates=gates),
            ready_flag=started,
            # kopf's own guess needs a user name, and the image's uid has none.
            identity=socket.gethostname(),  # type: ignore[arg-type]
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
        )
    finally:
        await kube.close()
        await probes.cleanup()


async def _wait_for_crd(kube: Kube) -> None:
    """kopf serves the kinds that exist when it starts, so the SchemaGate's must.

    Only a server that answers can say that the CRD is missing: what it refuses and while it is
    away is waited out, however long that is.
    """
    clock = asyncio.get_running_loop().time
    missing_since: float | None = None
    for delay in _ForEver():
        try:
            if await kube.serves_gates():
                return
        except ApiError as error:
            missing_since = None
            logger.warning("%s", error)
        else:
            missing_since = clock() if missing_since is None else missing_since
            if clock() - missing_since >= CRD_WAIT:
                break
            logger.warning("CRD %s.%s is not installed yet.", PLURAL, GROUP)
        await asyncio.sleep(min(delay, 5))
    raise SystemExit(
        f"tidegate-operator: the API server does not serve {PLURAL}.{GROUP}. Install the "
        "operator's chart with crd.install true, or apply its CRD; then start it again."
    )


def main() -> None:
    """Entry point of the console script."""
    try:
        settings = Settings.from_env(os.environ)
    except ValueError as error:
        sys.exit(f"tidegate-operator: {error}")
    kopf.configure(
        debug=settings.log_level == "debug",
        quiet=settings.log_level == "warning",
        log_format=kopf.LogFormat.JSON if settings.log_format == "json" else kopf.LogFormat.FULL,
    )
    if settings.log_level != "debug":
        # kopf tells of every event and login; what came of them is told by the operator itself.
        logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        asyncio.run(operate(settings))
    except kopf.LoginError as error:
        sys.exit(f"tidegate-operator: {error}")


if __name__ == "__main__":
    main()
