"""Builds the programs of the cluster from Go modules, once, into a cache.

No container engine and no image registry is needed for that, only a Go module proxy. What is
built is pinned by the `go.mod` and `go.sum` files under `go/`; their `tool` lines are the list of
programs. A build whose inputs did not change is never repeated.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .commands import run
from .errors import ClusterError
from .progress import Progress

SOURCES = Path(__file__).parent / "go"

# Programs that ask for a version at run time; without it they call themselves v0.0.0, and
# kubelet skew checks and a chart's kubeVersion refuse them.
STAMPS = {
    "kubernetes": (
        "k8s.io/kubernetes",
        (
            "k8s.io/component-base/version.gitVersion=v{major}.{minor}.{patch}",
            "k8s.io/component-base/version.gitMajor={major}",
            "k8s.io/component-base/version.gitMinor={minor}",
        ),
    ),
    "helm": (
        "helm.sh/helm/v4",
        ("helm.sh/helm/v4/internal/version.version=v{major}.{minor}.{patch}",),
    ),
    "containerd": (
        "github.com/containerd/containerd/v2",
        ("github.com/containerd/containerd/v2/version.Version={major}.{minor}.{patch}",),
    ),
    "buildkit": (
        "github.com/moby/buildkit",
        ("github.com/moby/buildkit/version.Version=v{major}.{minor}.{patch}",),
    ),
    "metrics-server": (
        "sigs.k8s.io/metrics-server",
        ("k8s.io/component-base/version.gitVersion=v{major}.{minor}.{patch}",),
    ),
}

# Build tags. Without this one promtool links the service discovery of every cloud, which no check
# of an exposition needs: it takes twice as long to build.
TAGS = {"promtool": "remove_all_sd"}

# Minutes a cold build takes on two cores: said before the wait, not after.
ABOUT = {
    "kubernetes": "5 min",
    "helm": "2 min",
    "coredns": "2 min",
    "promtool": "2 min",
    "otelcol": "2 min",
    "metrics-server": "2 min",
    "containerd": "1 min",
    "buildkit": "1 min",
    "versitygw": "1 min",
    "etcd": "25 s",
}

# Program name -> Debian package, for what is not built here.
DEBIAN = {
    "runc": "runc",  # with seccomp; a runc built by `go install` lacks it
    "iptables": "iptables",
    "ip": "iproute2",
    "mount": "mount",
    "unshare": "util-linux",
    "debootstrap": "debootstrap",
    "wrk": "wrk",
}


@dataclass(frozen=True)
class Module:
    """One folder under `go/`: a module whose `tool` lines name the programs to build."""

    name: str
    requires: dict[str, str]
    tools: dict[str, str]
    go: str

    @property
    def folder(self) -> Path:
        return SOURCES / self.name

    @property
    def ldflags(self) -> str:
        flags = ["-s", "-w"]
        if self.name in STAMPS:
            path, stamps = STAMPS[self.name]
            major, minor, patch = self.requires[path].lstrip("v").split("-")[0].split(".")
            values = {"major": major, "minor": minor, "patch": patch}
            flags += [f"-X {stamp.format(**values)}" for stamp in stamps]
        return " ".join(flags)

    @property
    def tags(self) -> list[str]:
        return ["-tags", TAGS[self.name]] if self.name in TAGS else []


def parse_module(name: str, text: str) -> Module:
    """Read the lines of a go.mod that matter here."""
    requires: dict[str, str] = {}
    tools: dict[str, str] = {}
    go = ""
    block = ""
    for raw in text.splitlines():
        words = raw.split("//")[0].split()
        if not words:
            continue
        if words[-1] == "(":
            block = words[0]
        elif words[0] == ")":
            block = ""
        else:
            verb, rest = (block, words) if block else (words[0], words[1:])
            if verb == "go":
                go = rest[0]
            elif verb == "require":
                requires[rest[0]] = rest[1]
            elif verb == "tool":
                tools[program_name(rest[0])] = rest[0]
    return Module(name, requires, tools, go)


def program_name(package: str) -> str:
    """What a Go package is called once built: the last part of its path, versions aside."""
    parts = [part for part in package.split("/") if not re.fullmatch(r"v\d+", part)]
    return "etcd" if package.startswith("go.etcd.io/etcd/server") else parts[-1]


def build_key(module: Module, go_version: str) -> str:
    """A name for everything that decides the bytes of a build."""
    digest = hashlib.sha256()
    for part in (go_version, module.ldflags, *module.tags, *_inputs(module.folder)):
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _inputs(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        if path.name in ("go.mod", "go.sum") or path.suffix == ".go":
            yield path.name
            yield path.read_text()


def cache_root() -> Path:
    """Where everything that may be thrown away lives."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "tidegate"


@cache
def _modules() -> dict[str, Module]:
    found = {}
    for path in sorted(SOURCES.glob("*/go.mod")):
        found[path.parent.name] = parse_module(path.parent.name, path.read_text())
    return found


def _module_of(program: str) -> Module:
    for module in _modules().values():
        if program in module.tools:
            return module
    known = ", ".join(sorted(name for module in _modules().values() for name in module.tools))
    raise ClusterError(f"No module under {SOURCES} builds {program!r}. It has: {known}.")


@cache
def _go_version() -> str:
    """The installed Go, for example `go1.26.8 linux/amd64`."""
    if shutil.which("go") is None:
        needed = max(_numbers(module.go) for module in _modules().values())
        raise ClusterError(
            "Go is not installed, and the cluster's programs are built from Go modules.\n"
            f"Install Go {'.'.join(map(str, needed))} or newer, see https://go.dev/dl/."
        )
    answer = subprocess.run(
        ["go", "version"], capture_output=True, text=True, env=_environment(), check=True
    )
    return answer.stdout.removeprefix("go version ").strip()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _check_go(module: Module) -> None:
    have = _go_version()
    if _numbers(have) < _numbers(module.go):
        raise ClusterError(
            f"{module.name} needs Go {module.go}, this machine has {have.split()[0]}.\n"
            "Install a newer Go, see https://go.dev/dl/."
        )


def _environment() -> dict[str, str]:
    """The person's proxy settings stay; what could change the result is fixed."""
    fixed = {
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly",
        "GOWORK": "off",
        "GO111MODULE": "on",
    }
    return {**os.environ, **fixed}


def _folder(module: Module) -> Path:
    return cache_root() / "bin" / f"{module.name}-{build_key(module, _go_version())}"


def binary(name: str, progress: Progress | None = None) -> Path:
    """The path of one program, built now if it is not in the cache."""
    return ensure([name], progress)[name]


def program(name: str, progress: Progress | None = None) -> str:
    """A client program (helm, kubectl): the pinned one, or PATH's where Go cannot build it."""
    try:
        return str(binary(name, progress))
    except ClusterError:
        found = shutil.which(name)
        if found is None:
            raise
        return found


def missing(names: Iterable[str]) -> dict[str, list[str]]:
    """The programs still to be built, by module: lets a caller plan its progress."""
    todo: dict[str, list[str]] = {}
    for name in names:
        module = _module_of(name)
        if not (_folder(module) / name).exists():
            todo.setdefault(module.name, []).append(name)
    return todo


def ensure(names: Iterable[str], progress: Progress | None = None) -> dict[str, Path]:
    """Build what is missing and give every program's path."""
    names = list(names)
    todo = missing(names)
    if todo:
        for module_name in todo:
            _check_go(_modules()[module_name])
        progress = progress or Progress()
        progress.plan(len(todo))
        for module_name, programs in todo.items():
            about = f" (about {ABOUT[module_name]}, once)" if module_name in ABOUT else ""
            with progress.step(f"build {_listed(programs)}{about}"):
                _build(_modules()[module_name], programs)
    return {name: _folder(_module_of(name)) / name for name in names}


def _listed(programs: list[str]) -> str:
    return ", ".join(programs) if len(programs) < 4 else f"{', '.join(programs[:2])} …"


def _build(module: Module, programs: list[str]) -> None:
    target = _folder(module)
    target.mkdir(parents=True, exist_ok=True)
    with locked(target.with_name(f"{module.name}.lock")):
        for leftover in target.parent.glob(f".{module.name}-*"):
            shutil.rmtree(leftover)
        # Another process may have built them while this one waited for the lock.
        programs = [name for name in programs if not (target / name).exists()]
        if not programs:
            return
        room = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{module.name}-"))
        try:
            _compile(module, programs, room)
            for name in programs:
                built = re.sub(r"/v\d+$", "", module.tools[name]).rsplit("/", 1)[-1]
                (room / built).rename(target / name)
        finally:
            shutil.rmtree(room, ignore_errors=True)


def _compile(module: Module, programs: list[str], room: Path) -> None:
    packages = [module.tools[name] for name in programs]
    command = ["go", "build", "-buildvcs=false", "-trimpath", *module.tags]
    command += ["-ldflags", module.ldflags]
    run(
        [*command, "-o", f"{room}/", *packages],
        what=f"Building {', '.join(programs)} from {module.folder}",
        hint="If that names a download, check GOPROXY and the network, then run it again.",
        folder=module.folder,
        environment=_environment(),
    )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; the kernel drops it if this one dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def debian_packages(programs: Iterable[str], progress: Progress | None = None) -> None:
    """Install the Debian packages of programs that are not here, or say what to type."""
    lacking = [name for name in programs if shutil.which(name) is None]
    if not lacking:
        return
    packages = sorted({DEBIAN[name] for name in lacking})
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ClusterError(
            f"Missing here, and needed: {', '.join(lacking)}.\n"
            f"Install them, on Debian and Ubuntu: sudo apt-get install {' '.join(packages)}"
        )
    progress = progress or Progress()
    progress.plan(1)
    with progress.step(f"install Debian packages {', '.join(packages)}"):
        _apt_get("update")
        _apt_get("install", "--yes", "--no-install-recommends", *packages)


def _apt_get(*arguments: str) -> None:
    run(
        ["apt-get", "--quiet", *arguments],
        what=f"`apt-get {' '.join(arguments)}`",
        hint="Run that line by hand, mend what it says, then run this again.",
        lines=2,
        environment={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )
