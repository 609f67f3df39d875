"""An application that does at its import what belongs into its startup, and fails."""

from __future__ import annotations

import os

raise RuntimeError(f"cannot connect to {os.environ['DATABASE_URL']}")
