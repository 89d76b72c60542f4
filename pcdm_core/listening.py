"""Taking an address to serve on."""

import os
import socket

__all__ = ["listen"]


def listen(host: str, port: int, choose: str) -> socket.socket:
    """Take the address before anything slow is done, for an error that says what to do.

    Args:
        host: Name or address.
        port: 0 for a free one.
        choose: What to choose otherwise if it cannot be had.

    Raises:
        OSError: It is in use, or not to be had.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        # The system's own words: those of create_server repeat the address.
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise OSError(f"cannot listen on {host}:{port} ({reason}): choose {choose}") from error
