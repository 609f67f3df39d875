"""Image archives: writing one for a single program, and reading what an archive holds.

An image is a tar of files, a config and a manifest. For a static program that needs no builder.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ClusterError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class Contents:
    """What an archive brings: the names it gives, and the digest that tells images apart."""

    tags: tuple[str, ...]
    config: str


def read(archive: Path) -> Contents:
    """Read names and config digest of a docker archive."""
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile("manifest.json")
            entries = json.load(member) if member else []
        entry = entries[0]
        config = entry["Config"].removesuffix(".json").rsplit("/", 1)[-1]
        return Contents(tuple(entry.get("RepoTags") or ()), f"sha256:{config}")
    except OSError as error:
        raise ClusterError(f"Cannot read {archive}: {error.strerror}.") from None
    except (KeyError, IndexError, ValueError, tarfile.TarError):
        raise ClusterError(
            f"{archive} is not an image archive.\nMake one with `docker save IMAGE -o FILE`."
        ) from None


def program_image(archive: Path, tag: str, program: Path, user: int) -> Path:
    """Write an image that holds one static program and runs it.

    The same program gives the same bytes, so loading it again is a no-op.
    """
    room = archive.with_suffix(".layout")
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir(parents=True)
    layer = room / "layer.tar"
    with tarfile.open(layer, "w", format=tarfile.GNU_FORMAT) as tar:
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
        entry = tarfile.TarInfo(program.name)
        entry.mode, entry.size = 0o755, program.stat().st_size
        with program.open("rb") as content:
            tar.addfile(entry, content)
    running = {"Entrypoint": [f"/{program.name}"], "User": str(user), "WorkingDir": "/"}
    layout(room, layer, running, tag)
    unfinished = archive.with_suffix(".part")
    with tarfile.open(unfinished, "w") as tar:
        for path in sorted(room.rglob("*")):
            tar.add(path, path.relative_to(room), recursive=False, filter=_anonymous)
    unfinished.rename(archive)
    shutil.rmtree(room)
    return archive


def layout(room: Path, layer: Path, running: dict[str, Any], tag: str) -> str:
    """Turn a layer into an OCI layout in `room` (the layer moves there); give its digest."""
    architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
    blobs = room / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    with layer.open("rb") as content:
        layer_digest = hashlib.file_digest(content, "sha256").hexdigest()
    size = layer.stat().st_size
    layer.rename(blobs / layer_digest)
    config = _blob(
        blobs,
        {
            "architecture": architecture,
            "os": "linux",
            "config": running,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
        },
    )
    manifest = _blob(
        blobs,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **config},
            "layers": [{"mediaType": LAYER, "digest": f"sha256:{layer_digest}", "size": size}],
        },
    )
    names = {"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag}
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            {
                "mediaType": MANIFEST,
                **manifest,
                "annotations": names,
                "platform": {"architecture": architecture, "os": "linux"},
            }
        ],
    }
    (room / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (room / "index.json").write_text(json.dumps(index))
    entry = {
        "Config": f"blobs/sha256/{config['digest'].removeprefix('sha256:')}",
        "RepoTags": [tag],
        "Layers": [f"blobs/sha256/{layer_digest}"],
    }
    (room / "manifest.json").write_text(json.dumps([entry]))
    return str(manifest["digest"])


def _blob(blobs: Path, value: dict[str, Any]) -> dict[str, Any]:
    content = json.dumps(value, sort_keys=True).encode()
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime = entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
