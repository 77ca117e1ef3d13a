"""Tells in plain words why connecting failed, and whether trying again can help.

The SDK reports every failure as a ``RuntimeError`` with debug text of its Rust core. The signs by which
that text is understood were observed with temporalio 1.35; a text without any is shown as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from temporal_fleet.errors import ConnectionFailedError


@dataclass(frozen=True)
class Cause:
    """One way in which connecting fails."""

    sign: str
    """What the SDK's text holds then; in any case of letters."""
    reason: str
    """What is wrong, in a few words."""
    cure: str
    """What to do, as the beginning of a sentence."""
    final: bool = False
    """Whether trying again cannot help."""


_CAUSES = (
    Cause(
        "CONNECT call failed with status: 407",
        "the proxy does not accept our user and password, or wants some (407)",
        "Write them into HTTPS_PROXY: http://user:password@host:port",
    ),
    Cause(
        "CONNECT call failed",
        "the proxy does not connect us to that address",
        "Allow it in the proxy",
    ),
    Cause(
        "invalid HTTP version parsed",
        "what answers as the proxy does not speak HTTP",
        "Set HTTPS_PROXY to an HTTP proxy that permits CONNECT",
    ),
    Cause(
        "UnknownIssuer",
        "the server's certificate is not signed by an authority that we trust",
        "Set TEMPORAL_TLS_SERVER_CA_CERT_PATH to the authority of the server",
    ),
    Cause(
        "NotValidForName",
        "the server's certificate is for another name",
        "Set TEMPORAL_TLS_SERVER_NAME to the name in the certificate",
    ),
    Cause(
        "InvalidCertificate(Expired",
        "the server's certificate has expired",
        "Renew it on the server",
    ),
    Cause(
        "alert: CertificateExpired",
        "our client certificate has expired",
        "Renew what TEMPORAL_TLS_CLIENT_CERT_PATH holds",
    ),
    Cause(
        "alert: CertificateRequired",
        "the server wants a client certificate",
        "Set TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH",
    ),
    Cause(
        "received fatal alert",
        "the server refuses the TLS handshake, probably our client certificate",
        "Check TEMPORAL_TLS_CLIENT_CERT_PATH",
    ),
    Cause(
        "KeyMismatch",
        "client certificate and private key do not belong together",
        "Check TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH",
    ),
    Cause(
        "CertificateParseError",
        "a certificate is malformed",
        "Check TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_SERVER_CA_CERT_PATH",
        final=True,
    ),
    Cause(
        "InvalidCertificate(BadEncoding",
        "the client certificate is malformed",
        "Check TEMPORAL_TLS_CLIENT_CERT_PATH",
        final=True,
    ),
    Cause(
        "PrivateKeyParseError",
        "the private key is malformed",
        "Check TEMPORAL_TLS_CLIENT_KEY_PATH",
        final=True,
    ),
    Cause(
        "InvalidContentType",
        "TLS handshake failed: the server does not speak TLS",
        "Set TEMPORAL_TLS=false, or TEMPORAL_ADDRESS to a port with TLS",
    ),
    Cause(
        "H2NotNegotiated",
        "the server offers no HTTP/2, so it is no Temporal server",
        "Set TEMPORAL_ADDRESS to the gRPC port of the Temporal frontend",
    ),
    Cause(
        "Error(Http2",
        "what answers there does not speak gRPC",
        "Set TEMPORAL_ADDRESS to the gRPC port of the Temporal frontend (7233, not the UI's)",
    ),
    Cause(
        "grpc-status header missing",
        "what answers there does not speak gRPC",
        "Set TEMPORAL_ADDRESS to the gRPC port of the Temporal frontend (7233, not the UI's)",
    ),
    Cause(
        "code: Unauthenticated",
        "the server does not accept our credentials (Unauthenticated)",
        "Check the API key (TEMPORAL_API_KEY or TEMPORAL_API_KEY_FILE) or the client certificate",
    ),
    Cause(
        "code: PermissionDenied",
        "our credentials lack a permission (PermissionDenied)",
        "Grant the identity behind the credentials access to the namespace",
    ),
    Cause(
        "Connection refused",
        "connection refused: nothing listens there",
        "Check TEMPORAL_ADDRESS and whether the server runs",
    ),
    Cause(
        "failed to lookup address",
        "DNS: the host name cannot be resolved",
        "Check TEMPORAL_ADDRESS",
    ),
    Cause("dns error", "DNS: the host name cannot be resolved", "Check TEMPORAL_ADDRESS"),
    Cause("invalid target URL", "the address is invalid", "Check TEMPORAL_ADDRESS", final=True),
    Cause(
        "Invalid headers",
        "a header has an invalid name or value",
        "Check TEMPORAL_GRPC_META_*",
        final=True,
    ),
    Cause(
        "TimedOut",
        "no answer in time",
        "Check TEMPORAL_ADDRESS, network policies and firewalls",
    ),
    *(
        Cause(
            sign,
            "the server closed the connection at once",
            "It may be no Temporal server (TEMPORAL_ADDRESS), want TLS (TEMPORAL_TLS=true) or a client "
            "certificate, or refuse ours (TEMPORAL_TLS_CLIENT_CERT_PATH)",
        )
        for sign in (
            # One refusal shows as any of these: it depends on what is read before the end.
            "unexpected-eof",
            "connection closed",
            "broken pipe",
            "ConnectionReset",
            "tls handshake eof",
        )
    ),
)


class CredentialError(ValueError):
    """A credential cannot be read or can never be used; the message names it, never its value."""


def reason_of(error: BaseException) -> str:
    """Return in a few words why a connection failed, without the SDK's debug text."""
    if isinstance(error, TimeoutError | CredentialError | ConnectionFailedError):
        return str(error) or "no answer in time"
    if cause := cause_of(error):
        return cause.reason
    text = str(error)
    if status := re.search(r'code: (\w+), message: "([^"]*)"', text):
        return f"{status[2]} ({status[1]})"
    return re.sub(r"\s+", " ", text)[:300] or type(error).__name__


def cause_of(error: BaseException) -> Cause | None:
    """Return what is known about a failure; None = nothing."""
    text = str(error).lower()
    return next((cause for cause in _CAUSES if cause.sign.lower() in text), None)
