"""Follows credentials that change while a worker runs, so that rotation needs no restart.

Kubernetes replaces mounted secrets by renaming a symbolic link, so contents are compared, not times: with
what the client in use was really given, so that no change is missed while it was being connected. An API key
is set in the client in place. Certificates live in the connection, so a new client is made and takes the old
one's place; calls that are under way end on the old connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

import structlog
from temporalio.client import Client

from temporal_fleet.client.connection import Connector, check_namespace, read_api_key, read_tls
from temporal_fleet.client.connection_failure import reason_of
from temporal_fleet.errors import ConnectionFailedError

log = structlog.get_logger(__name__)

Kind = Literal["api_key", "tls"]


class CredentialWatcher:
    """Keeps a client's credentials those that the files hold.

    Attributes:
        client: The client to use now; ask for it at every use.
    """

    def __init__(
        self,
        connector: Connector,
        client: Client,
        *,
        on_reload: Callable[[str, str], None] = lambda _kind, _outcome: None,
    ) -> None:
        """Watch the files that *connector*'s settings name.

        Args:
            connector: Makes the client that takes over when certificates change.
            client: The first client, made by *connector*.
            on_reload: Told the kind (``api_key`` or ``tls``) and outcome (``ok`` or ``failed``) whenever
                changed credentials are tried.
        """
        temporal = connector.settings.temporal
        self.client = client
        self._connector = connector
        self._temporal = temporal
        self._on_reload = on_reload
        self._watches_key = temporal.api_key_file is not None
        self._watches_tls = temporal.uses_tls and any(
            (
                temporal.tls_client_cert_path,
                temporal.tls_client_key_path,
                temporal.tls_server_ca_cert_path,
            )
        )
        self._failing: dict[Kind, str] = {}

    async def run(self, on_new_client: Callable[[Client], None]) -> None:
        """Look after the files at every interval until cancelled; returns at once when there are none.

        Args:
            on_new_client: Called with the client that takes over. When it raises ``ValueError`` or
                ``RuntimeError``, the old client stays.
        """
        interval = self._connector.settings.connection.credentials_poll_interval.total_seconds()
        while self._watches_key or self._watches_tls:
            await asyncio.sleep(interval)
            await self.look(on_new_client)

    async def look(self, on_new_client: Callable[[Client], None]) -> None:
        """Take over what changed since the last look; failures are logged and tried again next time."""
        if self._watches_key:
            await self._follow("api_key", self._take_key)
        if self._watches_tls:
            await self._follow("tls", lambda: self._take_certificates(on_new_client))

    async def _follow(self, kind: Kind, take: Callable[[], Awaitable[bool]]) -> None:
        try:
            changed = await take()
        except (RuntimeError, ValueError, TimeoutError, ConnectionFailedError) as error:
            self._failed(kind, reason_of(error))
            return
        failed_before = self._failing.pop(kind, None) is not None
        if changed:
            self._on_reload(kind, "ok")
            log.info("credentials reloaded", kind=kind)
        elif failed_before:
            log.info("credentials are again those in use", kind=kind)

    async def _take_key(self) -> bool:
        key = await asyncio.to_thread(read_api_key, self._temporal)
        if key == self.client.api_key:
            return False
        self.client.api_key = key
        return True

    async def _take_certificates(self, on_new_client: Callable[[Client], None]) -> bool:
        tls = await asyncio.to_thread(read_tls, self._temporal)
        if tls == self.client.service_client.config.tls:
            return False
        # Certificate and key may be half replaced, or not be known to the server yet: only a client that
        # has proved itself takes over.
        client = await self._connector.connect_once()
        await check_namespace(client)
        on_new_client(client)
        self.client = client
        return True

    def _failed(self, kind: Kind, reason: str) -> None:
        """Count each try, log each reason once."""
        self._on_reload(kind, "failed")
        if self._failing.get(kind) != reason:
            self._failing[kind] = reason
            log.warning(
                "changed credentials cannot be used, the old ones stay", kind=kind, reason=reason
            )
