"""A gRPC gateway with TLS, client certificates and API keys, in front of a plaintext dev server.

The dev server checks no credentials, so this process-local proxy does what a gateway or Temporal
Cloud does: it ends TLS, wants a client certificate when told so, and answers calls without a valid
API key with ``UNAUTHENTICATED``. Everything else passes through byte by byte, flow control included;
only request headers are decoded, and encoded anew for the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hpack import Decoder, Encoder

if TYPE_CHECKING:
    import trustme

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 8, 9
END_STREAM, END_HEADERS, PADDED, PRIORITY = 0x1, 0x4, 0x8, 0x20
UNAUTHENTICATED, PERMISSION_DENIED = 16, 7


class Certificate(Protocol):
    """What the proxy does with its own certificate; ``trustme.LeafCert`` is one."""

    def configure_cert(self, ctx: ssl.SSLContext, /) -> None:
        """Let a context use it."""


@dataclass(frozen=True)
class Call:
    """One gRPC call that reached the proxy."""

    method: str
    """The last part of the path, such as ``DescribeTaskQueue``."""
    peer: str | None
    """Common name of the client certificate; None when there was none."""
    api_key: str | None
    """The bearer token; None when there was none."""
    accepted: bool
    """Whether it was passed on to the server."""


class TlsProxy:
    """A listening proxy; made by :func:`tls_proxy`.

    Attributes:
        port: The port that it listens on; stays the same when it is told to accept something else.
        api_keys: Keys that are accepted from the next call on; None = calls need no key.
        certificate: The proxy's own; another one counts from the next :meth:`accept` on.
        refusal: The gRPC status of calls that are refused.
        refuse_all: Whether every call is refused, whatever its key.
        calls: All calls so far, in their order.
    """

    def __init__(
        self, server_address: str, certificate: Certificate, *, host: str = "127.0.0.1"
    ) -> None:
        self.port = 0
        self.api_keys: set[str] | None = None
        self.refusal = UNAUTHENTICATED
        self.refuse_all = False
        self.calls: list[Call] = []
        self.connections: Counter[str | None] = Counter()
        self._server_address = server_address
        self.certificate = certificate
        self._host = host
        self._listener: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    @property
    def address(self) -> str:
        """Host and port, as a client needs them."""
        return f"localhost:{self.port}"

    async def accept(self, client_authority: trustme.CA | None) -> None:
        """Accept new connections from clients of this authority only; None = from everybody.

        Connections that are open stay open, as behind a real gateway.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.set_alpn_protocols(["h2"])
        self.certificate.configure_cert(context)
        if client_authority is not None:
            client_authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        self.stop_listening()
        self._listener = await asyncio.start_server(self._serve, self._host, self.port, ssl=context)
        self.port = self._listener.sockets[0].getsockname()[1]

    def stop_listening(self) -> None:
        """Refuse new connections until :meth:`accept` is called."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def cut_connections(self) -> None:
        """Abort all connections that are open."""
        for writers in self._open.values():
            for writer in writers:
                writer.transport.abort()

    async def close(self) -> None:
        """Stop listening and end everything."""
        self.stop_listening()
        self.cut_connections()
        while self._open:
            await asyncio.wait(list(self._open))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        host, _, port = self._server_address.rpartition(":")
        server_reader, server_writer = await asyncio.open_connection(host, int(port))
        self._open[task] = [writer, server_writer]
        peer = _common_name(writer)
        self.connections[peer] += 1
        exchange = _Exchange(self, peer, to_client=writer, to_server=server_writer)
        directions = {
            asyncio.create_task(_until_closed(exchange.requests(reader))),
            asyncio.create_task(_until_closed(exchange.answers(server_reader))),
        }
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            writer.transport.abort()
            server_writer.transport.abort()
            await asyncio.gather(*directions)
            del self._open[task]

    def judge(self, headers: dict[str, str], peer: str | None) -> bool:
        """Record a call and return whether it may pass."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token if scheme == "Bearer" else None
        accepted = not self.refuse_all and (self.api_keys is None or key in self.api_keys)
        method = headers[":path"].rpartition("/")[2]
        self.calls.append(Call(method, peer, key, accepted))
        return accepted


class _Exchange:
    """One client connection and its connection to the server."""

    def __init__(
        self,
        proxy: TlsProxy,
        peer: str | None,
        *,
        to_client: asyncio.StreamWriter,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._peer = peer
        self._to_client = to_client
        self._to_server = to_server
        self._decoder = Decoder()
        self._encoder = Encoder()
        self._refused: set[int] = set()

    async def requests(self, reader: asyncio.StreamReader) -> None:
        """Pass on what the client sends, except for the calls that are refused."""
        self._to_server.write(await reader.readexactly(len(PREFACE)))
        while True:
            kind, flags, stream, payload = await _read_frame(reader)
            if kind == HEADERS:
                self._begin(flags, stream, payload)
            elif stream in self._refused and kind in {DATA, RST_STREAM, WINDOW_UPDATE}:
                if kind == DATA and payload:
                    # What the server never sees must not use up the connection's window.
                    self._write_client(WINDOW_UPDATE, 0, 0, len(payload).to_bytes(4, "big"))
            else:
                self._to_server.write(_frame(kind, flags, stream, payload))
            await self._to_server.drain()

    async def answers(self, reader: asyncio.StreamReader) -> None:
        """Pass on what the server sends, frame by frame: refusals are written between them."""
        while True:
            self._to_client.write(_frame(*await _read_frame(reader)))
            await self._to_client.drain()

    def _begin(self, flags: int, stream: int, payload: bytes) -> None:
        assert flags & END_HEADERS, "headers in several frames are not supported"
        assert not flags & (PADDED | PRIORITY), "padding and priority are not supported"
        headers = self._decoder.decode(payload)
        if self._proxy.judge({str(name): str(value) for name, value in headers}, self._peer):
            self._to_server.write(_frame(HEADERS, flags, stream, self._encoder.encode(headers)))
            return
        self._refused.add(stream)
        status = self._proxy.refusal
        message = b"Request%20unauthorized."
        # An encoder without memory: the server's own encoder owns the client's header table.
        answer = b"".join(
            _literal(name, value)
            for name, value in [
                (b":status", b"200"),
                (b"content-type", b"application/grpc"),
                (b"grpc-status", str(status).encode()),
                (b"grpc-message", message),
            ]
        )
        self._write_client(HEADERS, END_HEADERS | END_STREAM, stream, answer)

    def _write_client(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self._to_client.write(_frame(kind, flags, stream, payload))


def _literal(name: bytes, value: bytes) -> bytes:
    """Return a header field "without indexing" (RFC 7541, 6.2.2); both parts under 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


async def _read_frame(reader: asyncio.StreamReader) -> tuple[int, int, int, bytes]:
    head = await reader.readexactly(9)
    payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
    assert head[3] != CONTINUATION, "headers in several frames are not supported"
    return head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF, payload


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


async def _until_closed(direction: object) -> None:
    """Run one direction; its end by a closed connection is no error."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await direction  # type: ignore[misc]


def _common_name(writer: asyncio.StreamWriter) -> str | None:
    certificate = writer.get_extra_info("peercert")
    if not certificate:
        return None
    names = (value for part in certificate["subject"] for key, value in part if key == "commonName")
    return next(names, None)


@asynccontextmanager
async def tls_proxy(
    server_address: str, authority: trustme.CA, *, client_authority: trustme.CA | None = None
) -> AsyncIterator[TlsProxy]:
    """Listen on a free port until the end of the block.

    Args:
        server_address: The plaintext server that calls are passed on to.
        authority: Signs the proxy's own certificate, for ``localhost`` and ``127.0.0.1``.
        client_authority: Clients need a certificate of it; None = they need none.
    """
    proxy = TlsProxy(server_address, authority.issue_cert("localhost", "127.0.0.1"))
    await proxy.accept(client_authority)
    try:
        yield proxy
    finally:
        await proxy.close()


@dataclass(frozen=True)
class CertificateFiles:
    """The PEM files that a client reads."""

    certificate: Path
    key: Path
    authority: Path

    @classmethod
    def write(
        cls, folder: Path, authority: trustme.CA, client: trustme.LeafCert | None = None
    ) -> CertificateFiles:
        """Write the files to *folder*; those of the client only when it is given."""
        folder.mkdir(parents=True, exist_ok=True)
        files = cls(folder / "tls.crt", folder / "tls.key", folder / "ca.crt")
        authority.cert_pem.write_to_path(str(files.authority))
        if client is not None:
            files.replace(client)
        return files

    def replace(self, client: trustme.LeafCert) -> None:
        """Write another client certificate and its key."""
        self.certificate.write_bytes(b"".join(pem.bytes() for pem in client.cert_chain_pems))
        self.key.write_bytes(client.private_key_pem.bytes())


def client_certificate(authority: trustme.CA, name: str) -> trustme.LeafCert:
    """Return a certificate with this common name."""
    return authority.issue_cert(f"{name}.example.com", common_name=name)
