"""Render a chart as `helm template` does, into plain dicts.

    deployment, = render_chart(show_only=["templates/deployment.yaml"])

Values are laid over the few that have no default (:data:`LEAST`), so a test names only what it
is about.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.toolchain import binary

CHARTS = Path(__file__).resolve().parents[2] / "chart"
SERVICE = CHARTS / "service"
OPERATOR = CHARTS / "operator"

KUBERNETES = "1.36.3"
NAMESPACE = "shop"

ORDERS: dict[str, Any] = {
    "image": {"repository": "registry.example.com/shop/orders", "tag": "1.0"},
    "database": {"secretName": "orders-database"},
}
"""The least that the service chart asks for."""

LEAST: dict[Path, dict[str, Any]] = {
    SERVICE: ORDERS,
    OPERATOR: {"image": {"repository": "registry.example.com/platform/tidegate-operator"}},
}
"""The least that each chart asks for."""

Document = dict[str, Any]


class RenderError(Exception):
    """Helm refused; the message is what a person would read."""


def render_chart(
    values: Mapping[str, Any] | None = None,
    show_only: Sequence[str] = (),
    *,
    chart: Path = SERVICE,
    release: str = "orders",
    bare: bool = False,
) -> list[Document]:
    """Render a chart and return its documents, hooks and CRDs included.

    Parameters
    ----------
    values
        What to lay over :data:`LEAST`.
    show_only
        Templates to return, by their path in the chart; all of them if empty.
    bare
        Leave :data:`LEAST` out.

    Raises
    ------
    RenderError
        Helm refused the values or a template.
    """
    below = {} if bare else LEAST[chart]
    text = _render(chart, json.dumps(merge(below, values or {})), tuple(show_only), release)
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def render_notes(values: Mapping[str, Any] | None = None) -> str:
    """Return the notes that a person sees after an install."""
    dry_run = ["install", "orders", str(SERVICE), "--dry-run=client", "--hide-secret", "-f", "-"]
    text = _helm(dry_run, json.dumps(merge(ORDERS, values or {})))
    return text.partition("\nNOTES:\n")[2]


def lint_chart(chart: Path, values: Mapping[str, Any] | None = None) -> str:
    """Run `helm lint --strict` and return what it says.

    Raises
    ------
    RenderError
        It found a fault.
    """
    return _helm(["lint", "--strict", str(chart), "-f", "-"], json.dumps(values or {}))


def by_kind(documents: Sequence[Document]) -> dict[str, Document]:
    """Index documents by kind and component, for example `Job/migration`."""
    return {
        f"{document['kind']}/{document['metadata']['labels']['app.kubernetes.io/component']}": (
            document
        )
        for document in documents
    }


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one tree of values over another, as Helm does."""
    merged = deepcopy(dict(below))
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = deepcopy(value)
    return merged


def nest(path: str, value: object) -> dict[str, Any]:
    """Turn `image.tag` and a value into `{"image": {"tag": value}}`."""
    tree: Any = value
    for key in reversed(path.split(".")):
        tree = {key: tree}
    return dict(tree)


@cache
def _render(chart: Path, values: str, show_only: tuple[str, ...], release: str) -> str:
    only = [f"--show-only={path}" for path in show_only]
    where = [f"--namespace={NAMESPACE}", f"--kube-version={KUBERNETES}", "--include-crds"]
    return _helm(["template", release, str(chart), *where, *only, "-f", "-"], values)


def _helm(arguments: Sequence[str], stdin: str) -> str:
    ended = subprocess.run(
        [str(binary("helm")), *arguments],
        input=stdin,
        env={
            # Neither a cluster nor a person's Helm settings have a say.
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "KUBECONFIG": os.devnull,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise RenderError(f"{ended.stdout}{ended.stderr}".strip())
    return ended.stdout
