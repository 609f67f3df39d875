"""The ``tidegate`` command: finds ``tidegate COMMAND`` among the installed entry points."""

from __future__ import annotations

import os
import signal
import sys
from importlib.metadata import entry_points


def main() -> int:
    """Run ``tidegate COMMAND ...`` and return its exit code."""
    # As PID 1 of a container a process has no default action: without this, a SIGTERM that comes
    # before the command has its own handler would be lost, and the pod killed much later. At once:
    # an exception in the midst of an import of compiled code may crash it, and nothing runs yet.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    commands = {entry.name: entry for entry in entry_points(group="tidegate.commands")}
    name, *rest = sys.argv[1:] or ["--help"]
    if name not in commands:
        asked = name in {"-h", "--help"}
        print(
            f"usage: tidegate {{{','.join(sorted(commands))}}} ...",
            file=sys.stdout if asked else sys.stderr,
        )
        return 0 if asked else 2
    try:
        command = commands[name].load()
    except ModuleNotFoundError as error:
        print(
            f"tidegate {name} needs the package {error.name!r}, which is not installed; "
            f"install tidegate[{name}]",
            file=sys.stderr,
        )
        return 2
    return int(command(rest))


if __name__ == "__main__":
    raise SystemExit(main())
