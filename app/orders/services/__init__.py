"""The rules, and where a transaction begins and ends."""
