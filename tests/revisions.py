"""The revisions that the reference service ships, and one that it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

VERSIONS: Final = Path(__file__).resolve().parents[1] / "migrations-job" / "orders" / "versions"
SHIPPED: Final = tuple(sorted(path.name.partition("_")[0] for path in VERSIONS.glob("*_*.py")))
HEAD: Final = SHIPPED[-1]
NEXT: Final = "9999"
"""What a test calls the revision of a later release."""
