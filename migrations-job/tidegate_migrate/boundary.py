"""The steps at which a run meets the outside, named: a killed run must leave none half done."""

from __future__ import annotations

from collections.abc import Callable


def _pass(_: str) -> None:
    """Nothing happens here: a test's process puts a fault in its place."""


reached: Callable[[str], None] = _pass
"""Called with the name of each step, right before or after it."""
