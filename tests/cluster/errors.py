"""The one error a person is meant to read."""

from __future__ import annotations


class ClusterError(Exception):
    """Says in one or two lines what happened, why, and what to do.

    The command line prints it without a traceback and exits 1.
    """
