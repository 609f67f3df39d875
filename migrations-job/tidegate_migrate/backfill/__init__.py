"""Backfill: a big table is updated in small batches beside a running service."""
