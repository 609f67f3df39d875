"""What Prometheus' own linter says about an exposition."""

from __future__ import annotations

import subprocess

from tests.cluster.toolchain import binary


def promtool(exposition: str) -> list[str]:
    """Return the problems that ``promtool check metrics`` finds; the first run builds it.

    It reads the text format, without exemplars.
    """
    checked = subprocess.run(
        [binary("promtool"), "check", "metrics"],
        input=exposition,
        capture_output=True,
        text=True,
        check=False,
    )
    problems = checked.stderr.splitlines()
    if checked.returncode and not problems:
        raise RuntimeError(f"promtool exited {checked.returncode} without a word")
    return problems
