"""Building images from Dockerfiles, with a container engine or without one.

With an engine: `docker build` and `docker save`, from the real base images. Without: BuildKit,
built from its Go module, started for one build and ended after it, on the stand-in bases of
`standin.py`. Layers are cached either way.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import cgroups, standin, toolchain
from .commands import run
from .engine import container_engine
from .errors import ClusterError
from .processes import Process, first_child, kill, wait_until
from .progress import Progress

GROUP = "build"
# What all our images are called; no registry answers to that name.
REPOSITORY = "localhost/tidegate"
KEPT_ARCHIVES = 4
# A layer over /run that ends with the namespace; the machine's resolv.conf may lie below it.
OWN_RUN = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay -o "lowerdir=/run,upperdir=$1/upper,workdir=$1/work" overlay /run
shift
exec "$@"
"""
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Image:
    """What to build. The tag is also the name that pods ask for.

    A tag stands for its content: `content_tag` makes one. What was built once under a tag is not
    built again.
    """

    tag: str
    dockerfile: Path
    context: Path
    target: str = ""


def content_tag(root: Path, inputs: Sequence[str]) -> str:
    """A tag that changes exactly when one of these files or folders below `root` does."""
    digest = hashlib.sha256()
    for name in inputs:
        top = root / name
        files = [top] if top.is_file() else sorted(p for p in top.rglob("*") if p.is_file())
        for path in files:
            if "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(root)}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def archive_of(tag: str) -> Path:
    """Where the archive of an image lies in the cache, if it was ever built."""
    return toolchain.cache_root() / "images" / (re.sub(r"[^\w.-]", "_", tag) + ".tar")


def build(image: Image, progress: Progress | None = None) -> Path:
    """Build one image and give its docker archive, which lies in the cache."""
    progress = progress or Progress()
    if not image.dockerfile.is_file():
        raise ClusterError(f"{image.dockerfile} does not exist, so {image.tag} cannot be built.")
    target = archive_of(image.tag)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        with progress.step(f"image {image.tag} is built"):
            target.touch()  # the newest are kept
        return target
    engine = container_engine()
    if engine:
        with progress.step(f"build image {image.tag}"):
            _with_engine(engine, image, target)
    else:
        _with_buildkit(image, target, progress)
    _forget_older(image.tag)
    return target


def _forget_older(tag: str) -> None:
    """Keep the last few archives of a repository: one for each change would fill the disk."""
    repository = archive_of(tag.rpartition(":")[0])
    newest_first = sorted(
        repository.parent.glob(f"{repository.stem}_*.tar"),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    for old in newest_first[KEPT_ARCHIVES:]:
        old.unlink()


def _with_engine(engine: str, image: Image, target: Path) -> None:
    command = [engine, "build", "--file", str(image.dockerfile), "--tag", image.tag]
    if image.target:
        command += ["--target", image.target]
    _run(image, [*command, str(image.context)])
    unfinished = target.with_suffix(".part")
    _run(image, [engine, "save", "--output", str(unfinished), image.tag])
    unfinished.rename(target)


def _with_buildkit(image: Image, target: Path, progress: Progress) -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        raise ClusterError(
            f"{image.tag} cannot be built: no container engine answers, and building without one "
            "needs root on Linux.\nStart Docker or Podman, or run this with sudo."
        )
    toolchain.debian_packages(("runc", "unshare"), progress)
    programs = toolchain.ensure(["buildkitd", "buildctl"], progress)
    base = standin.base(progress)
    unfinished = target.with_suffix(".part")
    state = toolchain.cache_root() / "buildkit"
    with (
        progress.step(f"build image {image.tag}"),
        toolchain.locked(state.with_suffix(".lock")),
        _buildkitd(programs["buildkitd"], state) as address,
    ):
        command = buildctl_arguments(image, base, unfinished, os.environ)
        _run(image, [str(programs["buildctl"]), "--addr", address, *command])
        unfinished.rename(target)


def buildctl_arguments(
    image: Image, base: standin.StandIn, archive: Path, environ: Mapping[str, str]
) -> list[str]:
    """The arguments of one build with BuildKit's own client."""
    arguments = [
        *("build", "--frontend=dockerfile.v0", "--progress=plain"),
        f"--local=context={image.context}",
        f"--local=dockerfile={image.dockerfile.parent}",
        f"--opt=filename={image.dockerfile.name}",
        f"--oci-layout=base={base.layout}",
        # Build steps use the machine's network: pip and apt have to get out.
        "--opt=force-network-mode=host",
        "--allow=network.host",
        # Packing and unpacking takes longer than writing the bytes.
        f"--output=type=docker,name={image.tag},dest={archive},compression=uncompressed",
    ]
    for name in standin.STANDS_FOR:
        arguments.append(f"--opt=context:{name}=oci-layout://base@{base.digest}")
    if image.target:
        arguments.append(f"--opt=target={image.target}")
    for name in PROXIES:
        if environ.get(name):
            arguments.append(f"--opt=build-arg:{name}={environ[name]}")
    return arguments


@contextmanager
def _buildkitd(program: Path, state: Path) -> Iterator[str]:
    """A daemon for one build, in namespaces of its own: no mount, file or process stays."""
    room = Path(tempfile.mkdtemp(prefix="tidegate-"))  # short, as a socket's path has to be
    address = f"unix://{room}/buildkit"
    config = room / "buildkitd.toml"
    config.write_text(f'[worker.oci]\ndefaultCgroupParent = "{cgroups.group_name(GROUP)}"\n')
    (room / "run").mkdir()
    daemon = Process(
        "buildkitd",
        [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"),
            *("sh", "-c", OWN_RUN, "sh", str(room / "run")),
            *(program, f"--config={config}", f"--addr={address}", f"--root={state}"),
            *("--oci-worker=true", "--containerd-worker=false", "--oci-worker-binary=runc"),
            *("--oci-worker-net=host", "--allow-insecure-entitlement=network.host"),
        ],
        state.with_suffix(".log"),
    )
    try:
        wait_until("buildkitd listening", (room / "buildkit").exists, 30, [daemon])
        yield address
    finally:
        if (inner := first_child(daemon.pid)) is not None:
            kill(inner)
        daemon.kill()
        cgroups.remove(GROUP)
        shutil.rmtree(room, ignore_errors=True)


def _run(image: Image, command: list[str]) -> None:
    run(command, what=f"Building {image.tag} from {image.dockerfile}", lines=15)
