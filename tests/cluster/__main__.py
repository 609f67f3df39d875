"""`python -m tests.cluster up|down|load ARCHIVE|kubeconfig|status|build PROGRAM… [--name NAME]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import debian, toolchain
from .errors import ClusterError
from .interface import choose
from .processes import end_as_by_ctrl_c
from .progress import Progress


def main(arguments: list[str]) -> int:
    """Run one command; a `ClusterError` is printed as it is, without a traceback."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--name", default="tidegate", help="which cluster (default: tidegate)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="bring the cluster up")
    commands.add_parser("down", help="take it away")
    commands.add_parser("kubeconfig", help="print the path of its kubeconfig")
    commands.add_parser("status", help="say whether it answers; exit 1 if not")
    load = commands.add_parser("load", help="give it the image of a docker archive")
    load.add_argument("archive", type=Path)
    build = commands.add_parser("build", help="build programs that tests need, once")
    build.add_argument("programs", nargs="+", metavar="program")
    # So that --name may stand after the command as well.
    for command in commands.choices.values():
        command.add_argument("--name", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    end_as_by_ctrl_c()
    try:
        return _run(chosen)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted: what had been started is ended again", file=sys.stderr)
        return 130


def _run(chosen: argparse.Namespace) -> int:
    progress = Progress()
    if chosen.command == "build":
        toolchain.ensure(
            [name for name in chosen.programs if name not in debian.PROGRAMS], progress
        )
        for name in debian.PROGRAMS.keys() & set(chosen.programs):
            debian.unpacked(name, progress)
        return 0
    cluster = choose(chosen.name, progress=progress)
    if chosen.command == "up":
        cluster.up()
        print(f"export KUBECONFIG={cluster.kubeconfig}")
    elif chosen.command == "down":
        cluster.down()
    elif chosen.command == "load":
        with progress.step(f"load {chosen.archive.name}"):
            cluster.load_image(chosen.archive)
    elif chosen.command == "kubeconfig":
        print(cluster.kubeconfig)
    else:
        return _status(chosen.name, cluster.kubeconfig)
    return 0


def _status(name: str, kubeconfig: Path) -> int:
    from .kubectl import kubectl

    if not kubeconfig.exists():
        print(f"{name} is down")
        return 1
    kubectl(kubeconfig, "get", "--raw=/readyz", "--request-timeout=5s")
    print(f"{name} answers; KUBECONFIG={kubeconfig}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
