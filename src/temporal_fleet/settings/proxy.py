"""What the variables of an HTTP proxy mean: which proxy, and for which server it is not used.

There is no standard for them. This follows what curl, Go and Python agree on.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

_ENTRY = re.compile(r"(?P<host>\[[^\]]+\]|[^:]+)(:(?P<port>\d+))?")


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy that opens tunnels (``CONNECT``)."""

    address: str
    """Its host and port."""
    basic_auth: tuple[str, str] | None = field(default=None, repr=False)
    """User and password; None = it wants none."""


def parse_proxy(url: str) -> Proxy:
    """Read the URL of a proxy; ``http://`` may be left out, and the port is 80 unless it is there.

    Raises:
        ValueError: It is no such URL; the message does not repeat it, since it may hold a password.
    """
    text = url.strip()
    scheme = text.partition("://")[0].lower() if "://" in text else "http"
    if scheme != "http":
        raise ValueError("has a scheme other than http")
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host, port = None, 0
    if not host or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("is not the URL of a proxy")
    auth = None
    if parts.username is not None:
        auth = (unquote(parts.username), unquote(parts.password or ""))
    return Proxy(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", auth)


def goes_direct(address: str, no_proxy: str | None) -> bool:
    """Tell whether a server is reached without the proxy, as this machine itself always is.

    Args:
        address: Host and port of the server.
        no_proxy: Entries separated by commas: ``*``, an IP address, a network such as ``10.0.0.0/8``,
            or a domain, which stands for all names under it too; each but networks with a port or
            without. None = no entries.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]").lower().rstrip(".")
    ip = _ip(host)
    if host == "localhost" or (ip is not None and ip.is_loopback):
        return True
    entries = (entry.strip().lower() for entry in (no_proxy or "").split(","))
    return any(_covers(entry, host, port) for entry in entries if entry)


def _covers(entry: str, host: str, port: str) -> bool:
    ip = _ip(host)
    if "/" in entry:
        try:
            return ip is not None and ip in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    match = None if _ip(entry) else _ENTRY.fullmatch(entry)
    name = match["host"].strip("[]") if match else entry
    if match and match["port"] not in {None, port}:
        return False
    if name == "*" or (ip is not None and ip == _ip(name)):
        return True
    domain = name.removeprefix("*").strip(".")
    return host == domain or host.endswith(f".{domain}")


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
