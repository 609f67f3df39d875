"""The migration runner: plans, locks, runs and reports, for any Alembic project."""
