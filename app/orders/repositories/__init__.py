"""SQL, and nothing but: repositories never commit."""
