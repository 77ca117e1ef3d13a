"""Ports of the loopback interface that nobody needs to know beforehand."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def reserved_port() -> Iterator[int]:
    """Keep a free TCP port of the loopback interface from other processes, for a server that is being started.

    On Linux a socket that is bound and does not listen holds the port. A server that sets SO_REUSEADDR, as the
    Temporal server and a worker's health server do, can listen on it nevertheless. Elsewhere nothing holds it.

    Yields:
        The port.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port = int(holder.getsockname()[1])
        if sys.platform != "linux":
            holder.close()
        yield port
