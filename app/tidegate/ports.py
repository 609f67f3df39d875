"""Taking a port, with an error that says what to do."""

from __future__ import annotations

import errno
import socket

from tidegate.settings import SettingsError


def bind(host: str, port: int, setting: str) -> socket.socket:
    """Bind without listening yet: until the server is ready, clients are refused, not kept.

    Raises:
        SettingsError: the port cannot be had; ``setting`` is the variable that names another.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
            raise SettingsError(
                f"TIDEGATE_HOST: nothing can listen on {host} ({error.strerror}); "
                "set it to an address of this machine, or leave it out for all of them"
            ) from None
        raise SettingsError(
            f"port {port} cannot be opened ({error.strerror}); "
            f"end what listens there or set TIDEGATE_{setting} to another one"
        ) from None
    return listener
