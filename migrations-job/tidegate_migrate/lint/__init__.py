"""Which pending changes would break an image that still runs, or block those who use a table."""
