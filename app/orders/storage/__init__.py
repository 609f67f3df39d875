"""Where the content of files is kept: a seam with two sides, a directory and a bucket."""

from __future__ import annotations

from orders.core.settings import OrdersSettings
from orders.storage.seam import Storage


def open_storage(settings: OrdersSettings) -> Storage | None:
    """Return what the settings name; ``None`` if they name nothing."""
    if settings.files_directory is not None:
        from orders.storage.directory import Directory

        return Directory(settings.files_directory)
    if settings.files_bucket is not None:
        from orders.storage.bucket import Bucket  # a library of 15 MB: only who needs it loads it

        endpoint = str(settings.files_endpoint).rstrip("/") if settings.files_endpoint else None
        return Bucket(settings.files_bucket, endpoint)
    return None
