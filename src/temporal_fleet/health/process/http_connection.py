"""One client of the health server: reads requests, writes answers, never waits.

As much of HTTP/1.1 as probes, Prometheus and a person with curl need: GET and HEAD, persistent
connections, pipelined requests one after the other; everything else is refused with the status that
says why. Source: RFC 9110 and RFC 9112.
"""

from __future__ import annotations

import selectors
import socket
import time
import zlib
from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST_TIMEOUT = 5.0
"""Seconds for a request to arrive completely, and for an answer to be taken."""
KEEP_ALIVE_TIMEOUT = 120.0
"""Seconds that an idle connection is kept; longer than Prometheus usually waits between scrapes."""
MAX_REQUEST_BYTES = 8192
"""Largest request head; larger ones are refused with 431."""

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
_TEXT = "text/plain; charset=utf-8"
_COMPRESS_FROM = 1024


class Request:
    """A request that was understood.

    Attributes:
        method: ``GET`` or ``HEAD``.
        path: Path without the query.
        query: Text behind the question mark.
        accepts_gzip: Whether the answer may be compressed.
        keep_alive: Whether the connection stays open after the answer.
        arrived: When it arrived at the latest, on the monotonic clock, in seconds.
    """

    def __init__(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        *,
        persistent: bool,
        arrived: float,
    ) -> None:
        self.method = method
        self.path, _, self.query = target.partition("?")
        encodings = headers.get("accept-encoding", "").replace(" ", "").lower().split(",")
        self.accepts_gzip = any(
            name in {"gzip", "*"} and quality not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
            for name, _, quality in (encoding.partition(";") for encoding in encodings)
        )
        self.arrived = arrived
        asked = headers.get("connection", "").lower()
        self.keep_alive = "close" not in asked if persistent else "keep-alive" in asked


class BadRequestError(Exception):
    """A request that is refused.

    Attributes:
        status: The status to answer with.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def parse_request(head: bytes, arrived: float) -> Request:
    """Parse a request head without its final empty line, which arrived at a moment of the monotonic clock.

    Raises:
        BadRequestError: It is malformed, has a body, or uses another method than GET and HEAD.
    """
    first, *rest = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/"):
        raise BadRequestError(400, "malformed request line")
    method, target, protocol = words
    if protocol not in {"HTTP/1.1", "HTTP/1.0"}:
        raise BadRequestError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    if method not in {"GET", "HEAD"}:
        raise BadRequestError(405, "only GET and HEAD are allowed")
    headers: dict[str, str] = {}
    for line in rest:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequestError(400, "malformed header")
        headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise BadRequestError(400, "a request body is not accepted")
    return Request(method, target, headers, persistent=protocol == "HTTP/1.1", arrived=arrived)


@lru_cache(maxsize=1)
def _compressed(body: bytes) -> bytes:
    compress = zlib.compressobj(4, wbits=31)
    return compress.compress(body) + compress.flush()


class HttpConnection:
    """A client's connection.

    Args:
        client: The accepted socket.
        selector: Where it is watched.
        handle: Called with the connection and a request; must call :meth:`answer` at once or later.
        closed: Called when the connection is gone.

    Attributes:
        deadline: When the connection is closed unless something happens, on the monotonic clock.
        idle: Whether it waits for a next request, so that closing it hurts nobody.
    """

    def __init__(
        self,
        client: socket.socket,
        selector: selectors.BaseSelector,
        handle: Callable[[HttpConnection, Request], None],
        closed: Callable[[HttpConnection], None],
    ) -> None:
        client.setblocking(False)
        self._socket = client
        self._selector = selector
        self._handle = handle
        self._closed = closed
        self._incoming = bytearray()
        self._outgoing = memoryview(b"")
        self._request: Request | None = None
        self._open = True
        self._close_after = False
        self._pumping = False
        self._arrived = 0.0
        self.idle = False
        self.deadline = time.monotonic() + REQUEST_TIMEOUT
        selector.register(client, selectors.EVENT_READ, self._on_event)

    def answer(
        self, status: int, body: bytes, *, content_type: str = _TEXT, allow: str | None = None
    ) -> None:
        """Answer the request that is being handled; does nothing when the client has gone."""
        if not self._open:
            return
        request = self._request
        head = [
            f"HTTP/1.1 {status} {_REASONS[status]}",
            f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S GMT', time.gmtime())}",
            f"Content-Type: {content_type}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Vary: Accept-Encoding",
        ]
        if request and request.accepts_gzip and len(body) >= _COMPRESS_FROM:
            body = _compressed(body)
            head.append("Content-Encoding: gzip")
        if allow:
            head.append(f"Allow: {allow}")
        self._close_after = request is None or not request.keep_alive
        if self._close_after:
            head.append("Connection: close")
        head.append(f"Content-Length: {len(body)}")
        text = "\r\n".join(head).encode() + b"\r\n\r\n"
        self._outgoing = memoryview(text if request and request.method == "HEAD" else text + body)
        self.deadline = time.monotonic() + REQUEST_TIMEOUT
        self._send()

    def close(self) -> None:
        """Close the connection; idempotent."""
        if self._open:
            self._open = False
            self._selector.unregister(self._socket)
            self._socket.close()
            self._closed(self)

    def _on_event(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._send()
            return
        try:
            chunk = self._socket.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""  # the client went away, which is nobody's error
        if not chunk or len(self._incoming) > MAX_REQUEST_BYTES:
            self.close()
        elif not self._close_after:
            self._incoming += chunk
            self._arrived = time.monotonic()
            self._pump()

    def _pump(self) -> None:
        """Handle what has arrived, one request after the other, without recursion."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._incoming and self._is_free() and self._next_request():
                pass
        finally:
            self._pumping = False

    def _is_free(self) -> bool:
        return self._open and not self._close_after and self._request is None

    def _next_request(self) -> bool:
        if self.idle:
            self.idle = False
            self.deadline = time.monotonic() + REQUEST_TIMEOUT
        head, end, rest = bytes(self._incoming).lstrip(b"\r\n").partition(b"\r\n\r\n")
        try:
            if len(head) > MAX_REQUEST_BYTES:
                raise BadRequestError(431, f"request head exceeds {MAX_REQUEST_BYTES} bytes")
            if not end:
                return False
            self._incoming[:] = rest
            self._request = parse_request(head, self._arrived)
        except BadRequestError as error:
            allow = "GET, HEAD" if error.status == 405 else None
            self.answer(error.status, f"{error}\n".encode(), allow=allow)
            return False
        self._handle(self, self._request)
        return True

    def _send(self) -> None:
        try:
            while self._outgoing:
                self._outgoing = self._outgoing[self._socket.send(self._outgoing) :]
            if self._close_after:
                # Closing with unread input would reset the connection and lose the answer.
                self._socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            self._selector.modify(self._socket, selectors.EVENT_WRITE, self._on_event)
            return
        except OSError:
            self.close()
            return
        self._selector.modify(self._socket, selectors.EVENT_READ, self._on_event)
        self._request = None
        self.idle = True
        if not self._close_after:
            self.deadline = time.monotonic() + KEEP_ALIVE_TIMEOUT
            self._pump()
