"""What settings and credential files become, and how failures are told."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import SecretStr
from temporalio.service import TLSConfig

from temporal_fleet.client.connection import (
    client_arguments,
    credential_name,
    default_identity,
    read_api_key,
    read_tls,
)
from temporal_fleet.client.connection_failure import CredentialError, cause_of, reason_of
from temporal_fleet.errors import ConnectionFailedError
from temporal_fleet.settings import Settings, TemporalSettings

TRANSPORT = "Failed client connect: Server connection error: tonic::transport::Error(Transport, "
CALL = "Failed client connect: `get_system_info` call error after connection: Status { code: "


def test_default_identity_names_host_process_and_workload() -> None:
    """The identity tells which process of which workload polls."""
    assert default_identity("orders") == f"{socket.gethostname()}:{os.getpid()}:orders"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            TRANSPORT
            + 'ConnectError(ConnectError("tcp connect error", 127.0.0.1:1, Os { code: 111, '
            'kind: ConnectionRefused, message: "Connection refused" })))',
            "connection refused",
        ),
        (
            TRANSPORT
            + 'ConnectError(ConnectError("dns error", Custom { kind: Uncategorized, error: '
            '"failed to lookup address information: Name or service not known" })))',
            "DNS",
        ),
        (
            TRANSPORT + "ConnectError(Custom { kind: InvalidData, error: "
            "InvalidCertificate(UnknownIssuer) }))",
            "authority that we trust",
        ),
        (
            TRANSPORT + "ConnectError(Custom { kind: InvalidData, error: InvalidCertificate("
            "ExpiredContext { time: UnixTime(2), not_after: UnixTime(1) }) }))",
            "server's certificate has expired",
        ),
        (
            CALL + 'Unknown, message: "transport error", source: Some(tonic::transport::Error('
            "Transport, hyper::Error(Io, Custom { kind: InvalidData, error: "
            '"received fatal alert: CertificateExpired" }))) }',
            "our client certificate has expired",
        ),
        (TRANSPORT + "InconsistentKeys(KeyMismatch))", "do not belong together"),
        (TRANSPORT + "ConnectError(H2NotNegotiated))", "no HTTP/2"),
        (
            CALL + 'Internal, message: "h2 protocol error: http2 error", source: Some('
            'tonic::transport::Error(Transport, hyper::Error(Http2, Error { kind: GoAway(b"", '
            "FRAME_SIZE_ERROR, Library) }))) }",
            "does not speak gRPC",
        ),
        (
            CALL + 'Unauthenticated, message: "Request unauthorized.", source: None }',
            "does not accept our credentials",
        ),
        (CALL + 'PermissionDenied, message: "no", source: None }', "lack a permission"),
        (
            CALL + 'Unavailable, message: "shard is not ready", source: None }',
            "shard is not ready (Unavailable)",
        ),
        ("something\n  new", "something new"),
    ],
)
def test_reason_of_an_sdk_error_is_told_in_plain_words(text: str, reason: str) -> None:
    """The SDK's debug text becomes a few words; an unknown text is shown as it is."""
    told = reason_of(RuntimeError(text))

    assert reason in told
    assert "tonic" not in told


@pytest.mark.parametrize(
    "inner",
    [
        "Io, Custom { kind: UnexpectedEof, error: "
        '"peer closed connection without sending TLS close_notify: https://docs.rs/#unexpected-eof" }',
        'Io, Custom { kind: BrokenPipe, error: "stream closed because of a broken pipe" }',
        "Io, Kind(ConnectionReset)",
        'Canceled, "connection closed"',
    ],
)
def test_reason_of_a_closed_connection_is_the_same_however_it_shows(inner: str) -> None:
    """A gateway that hangs up is told as that, whichever of the SDK's texts it leads to."""
    error = RuntimeError(
        f'{CALL}Unknown, message: "transport error", source: Some(tonic::transport::Error(Transport, '
        f"hyper::Error({inner}))) }}"
    )

    assert reason_of(error) == "the server closed the connection at once"


@pytest.mark.parametrize(
    "sign", ["CertificateParseError", "PrivateKeyParseError", "Invalid headers"]
)
def test_cause_of_what_cannot_heal_is_final(sign: str) -> None:
    """What no later attempt can mend is known as such."""
    cause = cause_of(RuntimeError(f"{TRANSPORT}{sign})"))

    assert cause is not None
    assert cause.final


@pytest.mark.parametrize(
    "error",
    [TimeoutError("no answer within 3 s"), CredentialError("it"), ConnectionFailedError("that")],
)
def test_reason_of_our_own_error_is_its_text(error: Exception) -> None:
    """Errors of our own are already told in plain words."""
    assert reason_of(error) == str(error)


def test_api_key_file_is_read_at_each_use(tmp_path: Path) -> None:
    """A key that changes in its file is the key of the next connection, without the line's end."""
    file = tmp_path / "key"
    temporal = TemporalSettings(api_key_file=file, api_key=SecretStr("first"))
    file.write_text("first\n")
    first = read_api_key(temporal)
    file.write_text("second\n")

    assert [first, read_api_key(temporal)] == ["first", "second"]


@pytest.mark.parametrize("content", ["", "\n", "hunter2\nhunter3", "hunter2é"])
def test_api_key_file_with_unusable_content_fails_without_showing_it(
    tmp_path: Path, content: str
) -> None:
    """A key that could not be sent is an error that names the file, never the key."""
    file = tmp_path / "key"
    file.write_text(content, encoding="utf-8")

    with pytest.raises(CredentialError, match=r"TEMPORAL_API_KEY_FILE .*key\)") as caught:
        read_api_key(TemporalSettings(api_key_file=file))
    assert "hunter" not in str(caught.value)


def test_client_arguments_follow_the_temporal_settings() -> None:
    """Address, namespace, headers and API key reach the SDK as they were set."""
    temporal = TemporalSettings(
        address="temporal.example.com:7233",
        namespace="shop",
        api_key=SecretStr("hunter2"),
        grpc_meta={"team": "fleet"},
    )

    assert client_arguments(Settings(temporal=temporal)) == {
        "target_host": "temporal.example.com:7233",
        "namespace": "shop",
        "api_key": "hunter2",
        "tls": TLSConfig(),
        "rpc_metadata": {"team": "fleet"},
    }


@pytest.mark.parametrize(
    ("temporal", "expected"),
    [
        (TemporalSettings(), False),
        (TemporalSettings(tls=True), TLSConfig()),
        (TemporalSettings(api_key=SecretStr("k")), TLSConfig()),
        (TemporalSettings(api_key=SecretStr("k"), tls=False), False),
        (TemporalSettings(tls_server_name="front"), TLSConfig(domain="front")),
    ],
)
def test_tls_is_on_when_set_or_when_anything_needs_it(
    temporal: TemporalSettings, expected: bool | TLSConfig
) -> None:
    """Unset TLS follows from the other settings; ``false`` wins over all of them."""
    assert read_tls(temporal) == expected


def test_certificates_are_read_from_files_and_from_settings(tmp_path: Path) -> None:
    """A certificate comes from its file or from the setting itself, whichever is given."""
    authority = trustme.CA()
    client = authority.issue_cert("client")
    file = tmp_path / "tls.crt"
    file.write_bytes(client.cert_chain_pems[0].bytes())
    tls = read_tls(
        TemporalSettings(
            tls_client_cert_path=file,
            tls_client_key_data=SecretStr(client.private_key_pem.bytes().decode()),
        )
    )

    assert isinstance(tls, TLSConfig)
    assert tls.client_cert == file.read_bytes()
    assert tls.client_private_key == client.private_key_pem.bytes()
    assert tls.server_root_ca_cert is None


@pytest.mark.parametrize("item", ["client_cert", "client_key", "server_ca_cert"])
def test_certificate_file_that_is_not_pem_fails_with_its_setting(tmp_path: Path, item: str) -> None:
    """A file without PEM is named with the setting; the SDK alone would trust nobody, silently."""
    client = trustme.CA().issue_cert("client")
    client.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "good.pem"))
    file = tmp_path / "file.pem"
    file.write_text("hunter2")
    paths = {
        "tls_client_cert_path": tmp_path / "good.pem",
        "tls_client_key_path": tmp_path / "good.pem",
        f"tls_{item}_path": file,
    }

    with pytest.raises(CredentialError) as caught:
        read_tls(TemporalSettings.model_validate(paths))
    assert str(caught.value).startswith(f"TEMPORAL_TLS_{item.upper()}_PATH ({file}) holds no ")
    assert "hunter2" not in str(caught.value)


def test_certificate_file_that_is_missing_fails_with_its_setting(tmp_path: Path) -> None:
    """A file that cannot be read is named with the setting and the reason."""
    file = tmp_path / "absent.pem"

    with pytest.raises(
        CredentialError, match=r"TEMPORAL_TLS_SERVER_CA_CERT_PATH: cannot read .*: No"
    ):
        read_tls(TemporalSettings(tls_server_ca_cert_path=file))


@pytest.mark.parametrize(
    ("temporal", "name"),
    [
        (TemporalSettings(), "no credentials"),
        (TemporalSettings(api_key=SecretStr("hunter2")), "an API key"),
        (
            TemporalSettings(api_key=SecretStr("hunter2"), api_key_file=Path("/run/key")),
            "the API key in /run/key",
        ),
        (
            TemporalSettings(
                api_key=SecretStr("hunter2"),
                tls_client_cert_path=Path("/run/tls.crt"),
                tls_client_key_path=Path("/run/tls.key"),
            ),
            "an API key and the client certificate in /run/tls.crt",
        ),
        (
            TemporalSettings(
                tls_client_cert_data=SecretStr("hunter2"), tls_client_key_data=SecretStr("hunter2")
            ),
            "a client certificate",
        ),
    ],
)
def test_credential_name_tells_which_never_what(temporal: TemporalSettings, name: str) -> None:
    """Messages say which credential was used, never its value."""
    assert credential_name(temporal) == name


def _certificate(folder: Path) -> Path:
    file = folder / "tls.crt"
    trustme.CA().cert_pem.write_to_path(str(file))
    return file


@pytest.mark.parametrize("format", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_private_key_with_a_passphrase_is_said_to_be_that(
    format: PrivateFormat, tmp_path: Path
) -> None:
    """Nobody types a passphrase in a pod, so the error says so and how to do without."""
    key = load_pem_private_key(trustme.CA().private_key_pem.bytes(), None)
    file = tmp_path / "tls.key"
    file.write_bytes(key.private_bytes(Encoding.PEM, format, BestAvailableEncryption(b"hush")))
    with pytest.raises(CredentialError, match=r"TEMPORAL_TLS_CLIENT_KEY_PATH .*with a passphrase"):
        read_tls(
            TemporalSettings(
                tls=True, tls_client_key_path=file, tls_client_cert_path=_certificate(tmp_path)
            )
        )
