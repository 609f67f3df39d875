"""`make bench`: what the hooks cost, beside what others cost, in one run on one machine."""
