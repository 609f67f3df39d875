"""Programs from Debian's packages, unpacked into the cache: nothing is installed or started.

Installing PostgreSQL, PgBouncer or Redis would also start a server of the machine's own. Where a
program is installed already, that one is taken.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .commands import run
from .errors import ClusterError
from .progress import Progress
from .toolchain import cache_root, locked


@dataclass(frozen=True)
class Unpacked:
    """A program below a root: `/` where it is installed, else the folder it was unpacked to."""

    root: Path
    path: Path

    @property
    def environment(self) -> dict[str, str]:
        """What it needs to find the libraries that came with it."""
        if self.root == Path("/"):
            return {}
        # PulseAudio's client, which Chromium is linked with, keeps a library of its own aside.
        places = ("usr/lib/*-linux-*", "lib/*-linux-*", "usr/lib/*-linux-*/pulseaudio")
        folders = [folder for place in places for folder in self.root.glob(place)]
        return {"LD_LIBRARY_PATH": ":".join(map(str, folders))}

    def readable_by_all(self, room: Path) -> Unpacked:
        """Return it, copied into ``room`` where it lies in the home of root, closed to others."""
        if os.geteuid() != 0 or self.root == Path("/"):
            return self
        shutil.copytree(self.root, room, symlinks=True)
        return Unpacked(room, room / self.path.relative_to(self.root))


# Name -> the package, and where in it the program lies.
PROGRAMS: Final = {
    "pgbouncer": ("pgbouncer", "usr/sbin/pgbouncer"),
    "chromedriver": ("chromium-driver", "usr/bin/chromedriver"),
    "redis-server": ("redis-server", "usr/bin/redis-server"),
    "postgresql-debian": ("postgresql", "usr/lib/postgresql/*/bin/postgres"),
}


def unpacked(name: str, progress: Progress | None = None) -> Unpacked:
    """Return the program, downloaded now if it is neither installed nor in the cache.

    Raises:
        ClusterError: it is not here, and cannot be downloaded.
    """
    package, pattern = PROGRAMS[name]
    if found := _newest(Path("/"), pattern):
        return found
    if shutil.which("apt-get") is None:
        raise ClusterError(
            f"Missing here, and needed: /{pattern}.\n"
            f"It is what Debian's package {package} holds; no such package can be had here."
        )
    target = _folder(name)
    if not target.exists():
        progress = progress or Progress()
        progress.plan(1)
        with progress.step(f"download {name} (about 15 s, once)"):
            _unpack(package, target)
    if found := _newest(target, pattern):
        return found
    raise ClusterError(
        f"Debian's package {package} holds no {pattern}.\nRemove {target}, then run this again."
    )


def _newest(root: Path, pattern: str) -> Unpacked | None:
    """Return the program, of several versions the highest: 15 is newer than 9."""

    def numbers(path: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", str(path.relative_to(root)))]

    found = sorted(root.glob(pattern), key=numbers)
    return Unpacked(root, found[-1]) if found else None


def _folder(name: str) -> Path:
    release = platform.freedesktop_os_release()
    system = f"{release['ID']}{release.get('VERSION_ID', '')}-{platform.machine()}"
    return cache_root() / "debian" / f"{name}-{system}"


def _unpack(package: str, target: Path) -> None:
    with locked(target.with_name(f"{target.name}.lock")):
        if target.exists():  # another process was quicker
            return
        room = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{package}-"))
        try:
            _download(package, room)
            for archive in room.glob("*.deb"):
                run(["dpkg", "-x", archive, room / "root"], what=f"Unpacking {archive.name}")
            (room / "root").rename(target)
        finally:
            shutil.rmtree(room, ignore_errors=True)


def _download(package: str, room: Path) -> None:
    """Download the package and all it depends on that is not installed."""
    hint = "Check the network and /etc/apt, then run it again."
    if os.geteuid() == 0:
        run(["apt-get", "--quiet", "update"], what="`apt-get update`", hint=hint)
    plan = run(
        ["apt-get", "--simulate", "--no-install-recommends", "install", package],
        what=f"Asking apt what {package} needs",
        hint="Run `sudo apt-get update`, then run it again.",
    )
    packages = re.findall(r"^Inst (\S+)", plan, re.MULTILINE)
    run(["apt-get", "--quiet", "download", *packages], what="Download", hint=hint, folder=room)
