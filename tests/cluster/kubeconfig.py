"""Kubeconfig files that hold everything inline, so that one can be copied anywhere."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from .certificates import Pair


def write(path: Path, name: str, server: str, authority: Path, client: Pair) -> Path:
    """Write the kubeconfig of one user (JSON is YAML, and every client reads it)."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [
            {
                "name": name,
                "cluster": {"server": server, "certificate-authority-data": _inline(authority)},
            }
        ],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": _inline(client.certificate),
                    "client-key-data": _inline(client.key),
                },
            }
        ],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=2) + "\n")
    return path


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
