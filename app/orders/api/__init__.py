"""HTTP: thin routers that parse, call and return."""
