"""A stand-in for the base images, for machines that reach no image registry.

debootstrap makes a Debian root with Python out of packages; laid out as an OCI image, BuildKit
takes it wherever a Dockerfile says `FROM python:3.13-slim` or `FROM debian:trixie-slim`. It is
Debian's Python 3.13, not the one of the official image: good for tests, not for a release.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import archive, toolchain
from .commands import run
from .progress import Progress

SUITE = "trixie"
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
STANDS_FOR = ("python:3.13-slim", "debian:trixie-slim")
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
RECIPE = "1"  # raise it when this file changes what comes out


@dataclass(frozen=True)
class StandIn:
    """An OCI layout and the digest of the image in it."""

    layout: Path
    digest: str


def base(progress: Progress) -> StandIn:
    """The stand-in, made on first use (about a minute) and then kept."""
    trusted = _trusted_certificates()
    recipe = "\0".join((RECIPE, SUITE, PACKAGES)).encode() + trusted
    key = hashlib.sha256(recipe).hexdigest()[:16]
    folder = toolchain.cache_root() / "stand-in" / f"{SUITE}-{key}"
    with toolchain.locked(folder.with_suffix(".lock")):
        if not folder.exists():
            toolchain.debian_packages(("debootstrap", "unshare"), progress)
            progress.plan(1)
            with progress.step(f"bootstrap a Debian {SUITE} base (about 1 min, once)"):
                _make(folder, trusted)
    return StandIn(folder, (folder / "digest").read_text())


def _trusted_certificates() -> bytes:
    """What this machine trusts: behind an inspecting proxy that differs from Debian's list."""
    paths = (os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile)
    for path in (*paths, f"/{CERTIFICATES}"):
        if path and Path(path).is_file():
            return Path(path).read_bytes()
    return b""


def _make(folder: Path, trusted: bytes) -> None:
    for leftover in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(leftover)
    room = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        root = room / "root"
        _debootstrap(root)
        _like_the_official_image(root)
        if trusted:
            (root / CERTIFICATES).write_bytes(trusted)
        layer = room / "layer.tar"
        # Devices and kernel file systems are the container's, not the image's.
        left_out = [f"--exclude=./{name}/*" for name in ("dev", "proc", "sys", "run", "tmp")]
        _run("tar", "--numeric-owner", *left_out, "-cf", str(layer), "-C", str(root), ".")
        shutil.rmtree(root)
        search = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        running = {"Env": [f"PATH={search}", "LANG=C.UTF-8"], "Cmd": ["bash"]}
        digest = archive.layout(room, layer, running, f"localhost/tidegate/{SUITE}:base")
        (room / "digest").write_text(digest)
        room.rename(folder)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _debootstrap(root: Path) -> None:
    # In namespaces of its own, so that an interrupted run leaves nothing mounted.
    _run(
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)),
    )


def _like_the_official_image(root: Path) -> None:
    """Python where the official image has it, and pip free to install."""
    local = root / "usr/local/bin"
    for name in ("python", "python3", "python3.13"):
        (local / name).symlink_to("/usr/bin/python3.13")
    for name in ("pip", "pip3"):
        (local / name).symlink_to("/usr/bin/pip3")
    for mark in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        mark.unlink()
    for used in (*root.glob("var/cache/apt/archives/*.deb"), *root.glob("var/lib/apt/lists/*_*")):
        used.unlink()


def _run(*command: str) -> None:
    run(
        command,
        what=f"`{' '.join(command)}`",
        hint="It needs root and a Debian mirror; with a container engine it is not needed at all.",
    )
