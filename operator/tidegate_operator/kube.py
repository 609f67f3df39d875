"""Reads from the API server, and the one write: a SchemaGate's status.

kopf does the watching; a watch tells that something changed, never what is true now. So what a
gate's status is decided from is read here, fresh from the server.

kopf's own requests and these share the credentials, not the session: kopf closes its session
whenever it logs in anew. A full client library would be a third of the image and half of the
memory for these five requests.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import aiohttp
import kopf
import yaml

from tidegate_operator.models import (
    GATE_LABEL,
    Attempt,
    Deployment,
    Gate,
    Job,
    newest_job,
    read_attempt,
)

__all__ = ["ApiError", "ConflictError", "Kube", "credentials"]

GROUP, VERSION, PLURAL = "tidegate.dev", "v1alpha1", "schemagates"

_TIMEOUT = aiohttp.ClientTimeout(total=15, sock_connect=5)


class ApiError(Exception):
    """The API server refused, failed or could not be reached; the message says what to do."""


class ConflictError(ApiError):
    """The object changed between its read and this write: read it again."""


def credentials(settings: kopf.OperatorSettings) -> kopf.ConnectionInfo:
    """Find out how to reach the API server, as kubectl does, or as a pod does.

    Raises:
        kopf.LoginError: there is neither a ServiceAccount nor a kubeconfig that can be read.
    """
    info = kopf.login_with_service_account(settings=settings)
    if info is not None:
        # The address, not the name: the operator needs no cluster DNS.
        host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if host:
            host = f"[{host}]" if ":" in host else host
            info = replace(info, server=f"https://{host}:{port}")
        return info
    try:
        info = kopf.login_with_kubeconfig(settings=settings)
    except (OSError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise kopf.LoginError(
            f"The kubeconfig cannot be read ({what}). Correct it, or the variable KUBECONFIG."
        ) from error
    if info is not None:
        return info
    raise kopf.LoginError(
        "No way to reach a Kubernetes API server: no ServiceAccount token is mounted and there is "
        "no kubeconfig. In a pod, set automountServiceAccountToken; elsewhere, set KUBECONFIG."
    )


class Kube:
    """The API server, as the operator needs it. Close it in the end."""

    def __init__(self, settings: kopf.OperatorSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._server = ""

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def serves_gates(self) -> bool:
        """Whether the SchemaGate's CRD is installed and served."""
        found = await self._request("GET", f"/apis/{GROUP}/{VERSION}")
        return any(entry["name"] == PLURAL for entry in (found or {}).get("resources", ()))

    async def gate(self, namespace: str, name: str) -> Gate | None:
        found = await self._request("GET", _gate_path(namespace, name))
        return Gate.from_json(found) if found else None

    async def deployment(self, namespace: str, name: str) -> Deployment | None:
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        found = await self._request("GET", path)
        return Deployment.from_json(found) if found else None

    async def newest_job(self, gate: Gate) -> Job | None:
        found = await self._request(
            "GET",
            f"/apis/batch/v1/namespaces/{gate.namespace}/jobs",
            params={"labelSelector": f"{GATE_LABEL}={gate.name}"},
        )
        return newest_job(Job.from_json(item) for item in (found or {}).get("items", ()))

    async def attempt(self, namespace: str, job: Job) -> Attempt:
        found = await self._request(
            "GET",
            f"/api/v1/namespaces/{namespace}/pods",
            params={"labelSelector": f"batch.kubernetes.io/controller-uid={job.uid}"},
        )
        return read_attempt((found or {}).get("items", ()))

    async def write_status(self, gate: Gate, status: Mapping[str, Any]) -> None:
        """Replace the gate's status, if the gate is still what was read.

        Raises:
            ConflictError: it is not.
        """
        await self._request(
            "PATCH",
            f"{_gate_path(gate.namespace, gate.name)}/status",
            headers={"Content-Type": "application/json-patch+json"},
            json=[
                {
                    "op": "replace",
                    "path": "/metadata/resourceVersion",
                    "value": gate.resource_version,
                },
                {"op": "add", "path": "/status", "value": status},
            ],
        )

    async def _request(self, method: str, path: str, **kwargs: Any) -> dict[str, Any] | None:  # noqa: ANN401
        """Return what the server answers; ``None`` when there is no such object."""
        answer: dict[str, Any]
        for may_log_in_again in (True, False):
            session = self._session or self._log_in()
            try:
                async with session.request(
                    method, self._server + path, timeout=_TIMEOUT, **kwargs
                ) as response:
                    code = response.status
                    if code == HTTPStatus.UNAUTHORIZED and may_log_in_again:
                        await self.close()  # the token was rotated: read it again
                        continue
                    if code < HTTPStatus.BAD_REQUEST:
                        answer = await response.json()
                        return answer
                    if code == HTTPStatus.NOT_FOUND:
                        return None
                    said = (await response.text())[:2000]
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise ApiError(
                    f"{method} {path}: the API server at {self._server} does not answer "
                    f"({type(error).__name__}: {error})"
                ) from error
            if code == HTTPStatus.CONFLICT:
                raise ConflictError(f"{method} {path}: changed in the meantime")
            todo = ""
            if code == HTTPStatus.UNAUTHORIZED:
                todo = " The token is refused: see that the operator's ServiceAccount exists."
            if code == HTTPStatus.FORBIDDEN:
                todo = (
                    " The operator's Role does not grant this: run `helm upgrade` with the "
                    "operator's chart, with this namespace in watchNamespaces."
                )
            raise ApiError(f"{method} {path}: HTTP {code}: {said}{todo}")
        raise AssertionError("unreachable: the second try returns or raises")

    def _log_in(self) -> aiohttp.ClientSession:
        info = credentials(self._settings)
        self._server = info.server.rstrip("/")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=info.as_ssl_context()),
            headers={**info.as_http_headers(), "User-Agent": "tidegate-operator"},
        )
        return self._session


def _gate_path(namespace: str, name: str) -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/{name}"
