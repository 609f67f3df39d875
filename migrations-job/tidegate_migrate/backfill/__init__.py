"""Backfill: a big table is updated in small batches beside a running service."""

RETURNS = "tidegate_returns"
"""The option of Alembic's context that says whether the revision was applied and taken back."""
