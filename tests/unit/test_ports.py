"""Ports that are kept for a server that is being started."""

from __future__ import annotations

import socket
import sys

import pytest

from temporal_fleet.ports import reserved_port


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing holds the port")
def test_reserved_port_is_for_the_server_that_is_told_it() -> None:
    """Another process cannot take the port, while a server with SO_REUSEADDR can listen on it."""
    with reserved_port() as port:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)) as server:
            socket.create_connection(server.getsockname()).close()
