"""Reaching Temporal through an HTTP proxy: the server's name is known to the proxy alone."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from connect_proxy import SERVER, ConnectProxy, connect_proxy
from pydantic import SecretStr
from structlog.testing import capture_logs
from temporalio.client import Client
from temporalio.runtime import Runtime
from tls_proxy import CertificateFiles, client_certificate, tls_proxy

from temporal_fleet.client.connection import Connector, check_namespace
from temporal_fleet.client.credentials import CredentialWatcher
from temporal_fleet.errors import ConnectionFailedError
from temporal_fleet.payloads import data_converter
from temporal_fleet.settings import ConnectionSettings, Settings, TemporalSettings
from temporal_fleet.testing import dev_server

pytestmark = pytest.mark.integration

PASSWORD = "hunter2"


@dataclass(frozen=True)
class Network:
    """A dev server, a TLS gateway in front of it, and the proxy that leads to either."""

    plain: str
    gateway: str
    proxy: ConnectProxy
    files: CertificateFiles
    authority: trustme.CA

    def connector(self, *, user: str = "", **temporal: Any) -> Connector:
        """Return what connects to the name that only the proxy knows."""
        return Connector(
            settings=Settings(
                temporal=TemporalSettings(address=SERVER, **temporal),
                connection=ConnectionSettings(
                    https_proxy=SecretStr(f"http://{user}{self.proxy.address}"),
                    deadline=timedelta(seconds=20),
                    backoff_initial=timedelta(seconds=0.05),
                ),
            ),
            runtime=Runtime.default(),
            identity="behind-a-proxy",
            data_converter=data_converter(),
        )

    def tls(self) -> dict[str, Any]:
        """Point the proxy to the gateway, and return the settings that it needs."""
        self.proxy.upstream = self.gateway
        return {
            "tls_server_ca_cert_path": self.files.authority,
            "tls_client_cert_path": self.files.certificate,
            "tls_client_key_path": self.files.key,
            "tls_server_name": "localhost",
        }


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[Network]:
    """A network of this test alone."""
    authority = trustme.CA()
    files = CertificateFiles.write(tmp_path, authority, client_certificate(authority, "one"))
    async with dev_server() as environment:
        plain = environment.client.service_client.config.target_host
        async with (
            tls_proxy(plain, authority, client_authority=authority) as gateway,
            connect_proxy(plain) as proxy,
        ):
            yield Network(plain, gateway.address, proxy, files, authority)


@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "tls"])
async def test_connect_goes_through_the_proxy(network: Network, tls: bool) -> None:
    """The proxy gets the server's name and our user and password, with TLS inside and without."""
    connector = network.connector(
        user=f"me:{PASSWORD}@", **(network.tls() if tls else {"tls": False})
    )
    client = await connector.connect()
    await check_namespace(client)

    head = network.proxy.requests[0]
    assert head.startswith(f"CONNECT {SERVER} ")
    assert b64encode(f"me:{PASSWORD}".encode()).decode() in head


async def test_rotated_certificate_reconnects_through_the_proxy(network: Network) -> None:
    """A client made for changed certificates takes the same way."""
    connector = network.connector(**network.tls())
    watcher = CredentialWatcher(connector, await connector.connect())
    network.files.replace(client_certificate(network.authority, "two"))
    taken: list[Client] = []
    before = len(network.proxy.requests)

    await watcher.look(taken.append)

    assert taken == [watcher.client]
    assert len(network.proxy.requests) > before


async def test_proxy_that_wants_a_password_is_told_apart_from_the_server(network: Network) -> None:
    """The error and the log name the proxy and what it wants, never the password that was wrong."""
    network.proxy.refusal = "407 Proxy Authentication Required"
    connector = network.connector(user=f"me:{PASSWORD}@", tls=False)
    patience = connector.settings.connection.model_copy(update={"deadline": timedelta(seconds=1)})
    settings = connector.settings.model_copy(update={"connection": patience})
    impatient = Connector(
        settings=settings,
        runtime=connector.runtime,
        identity="me",
        data_converter=data_converter(),
    )
    with capture_logs() as logs, pytest.raises(ConnectionFailedError) as caught:
        await impatient.connect()

    assert f"through the proxy {network.proxy.address}" in str(caught.value)
    assert "the proxy does not accept our user and password" in str(caught.value)
    assert PASSWORD not in str(caught.value) + json.dumps(logs, default=str)
