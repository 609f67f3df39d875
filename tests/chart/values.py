"""What the service chart's values.yaml and values.schema.json say, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from tests.chart.render import SERVICE

DEFAULTS: dict[str, Any] = yaml.safe_load((SERVICE / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((SERVICE / "values.schema.json").read_text())

# Helm hands these down to every chart; a default for them would be a lie.
WITHOUT_DEFAULT = {"global"}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Walk every value that the schema knows, from the top down."""
    for name, below in schema.get("properties", {}).items():
        here = f"{path}.{name}".removeprefix(".")
        yield here, below
        yield from nodes(below, here)


NODES = dict(nodes(SCHEMA))
LEAVES = {
    path: node
    for path, node in NODES.items()
    if "properties" not in node and path not in WITHOUT_DEFAULT
}


def paths_of(values: dict[str, Any], path: str = "") -> Iterator[str]:
    """Walk values.yaml, down to what the schema leaves to Kubernetes."""
    for name, value in values.items():
        here = f"{path}.{name}".removeprefix(".")
        yield here
        if isinstance(value, dict) and "properties" in NODES.get(here, {}):
            yield from paths_of(value, here)
