"""The Orders service over its API, on a real PostgreSQL."""
