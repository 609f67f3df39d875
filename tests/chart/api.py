"""A real kube-apiserver, as the chart's tests ask it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.chart.render import NAMESPACE
from tests.cluster.toolchain import binary


@dataclass(frozen=True)
class Api:
    """A kube-apiserver, asked through kubectl."""

    kubeconfig: Path

    def kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl and return how it ended."""
        return subprocess.run(
            [str(binary("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def dry_run(self, documents: Sequence[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
        """Apply on the server's side as Helm 4 does, with everything but the writing."""
        return self.kubectl(
            *["apply", "--server-side", "--dry-run=server", "--validate=strict"],
            *["--namespace", NAMESPACE, "-f", "-"],
            stdin=yaml.safe_dump_all(documents),
        )
