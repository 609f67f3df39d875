"""Work that outlives its request: in a queue on PostgreSQL, done by worker processes."""
