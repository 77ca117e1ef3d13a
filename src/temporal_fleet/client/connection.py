"""Connects to Temporal: patient while the server is away, plain about what is wrong.

The SDK connects once and fails at once; a pod has to wait for its server and for secrets that arrive late.
Credentials are read anew for every attempt, so a connection made later uses what the files hold then.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import random
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from pydantic import SecretStr
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, ListNamespacesRequest
from temporalio.client import Client, Interceptor
from temporalio.converter import DataConverter
from temporalio.runtime import Runtime
from temporalio.service import HttpConnectProxyConfig, RPCError, RPCStatusCode, TLSConfig

from temporal_fleet.client.connection_failure import CredentialError, cause_of, reason_of
from temporal_fleet.errors import ConnectionFailedError
from temporal_fleet.settings import Settings, TemporalSettings

log = structlog.get_logger(__name__)

NAMESPACE_TIMEOUT = timedelta(seconds=10)
"""How long the server may take to answer whether the namespace exists."""

SHORTEST_ATTEMPT = timedelta(seconds=1)
"""What the last attempt before the deadline gets at least, so that it fails for its true reason."""


def default_identity(workload: str) -> str:
    """Return ``<hostname>:<pid>:<workload>``; in Kubernetes the host name is the pod's."""
    return f"{socket.gethostname()}:{os.getpid()}:{workload}"


@dataclass(frozen=True, kw_only=True)
class Connector:
    """Makes clients of one server that differ in nothing but the credentials at the time."""

    settings: Settings
    """Server, credentials, patience."""
    runtime: Runtime
    """The one SDK runtime of this process; a worker accepts only clients of its own."""
    identity: str
    """Identity that the server is given."""
    data_converter: DataConverter
    """Converter of all payloads."""
    interceptors: Sequence[Interceptor] = ()
    """Client interceptors; those that are worker interceptors too are handed on to workers."""
    on_attempt: Callable[[str], None] = field(default=lambda _outcome: None)
    """Told ``ok`` or ``failed`` for every attempt."""
    on_failure: Callable[[str], None] | None = None
    """Told why an attempt failed; None = that is logged."""

    async def connect(self) -> Client:
        """Try until it works or the deadline passes.

        Credentials that the server refuses are tried again as well: a secret may be updated, or the
        server learn of a new key, a little later than this process starts. A credential that cannot be
        read, a malformed certificate and an invalid address fail at once.

        Returns:
            A connected client.

        Raises:
            ConnectionFailedError: The deadline passed, or trying again cannot help.
        """
        patience = self.settings.connection
        deadline = patience.deadline.total_seconds()
        began, attempt, wait = time.monotonic(), 0, patience.backoff_initial.total_seconds()
        while True:
            attempt += 1
            left = timedelta(seconds=deadline - (time.monotonic() - began))
            try:
                client = await self.connect_once(max(left, SHORTEST_ATTEMPT))
            except (RuntimeError, ValueError, TimeoutError) as error:
                self.on_attempt("failed")
                spent = time.monotonic() - began
                # Full jitter: workers that lost the same server do not come back all at once.
                pause = random.uniform(0, wait)  # noqa: S311 - no secret
                cause = cause_of(error)
                final = isinstance(error, ValueError) or (cause is not None and cause.final)
                if final or spent + pause >= deadline:
                    raise self._failed(error, attempt, spent, final=final) from error
                self._tell(attempt, reason_of(error), pause)
                await asyncio.sleep(pause)
                wait = min(wait * 2, patience.backoff_maximum.total_seconds())
            else:
                self.on_attempt("ok")
                return client

    def _tell(self, attempt: int, reason: str, pause: float) -> None:
        if self.on_failure:
            self.on_failure(reason)
            return
        log.warning(
            "connection attempt failed",
            address=self.settings.temporal.address,
            namespace=self.settings.temporal.namespace,
            attempt=attempt,
            reason=reason,
            retry_in_seconds=round(pause, 2),
        )

    async def connect_once(self, at_most: timedelta | None = None) -> Client:
        """Make a client with the credentials as they are now.

        Args:
            at_most: Longest time it may take if that is less than one attempt's timeout; None = the
                attempt's timeout.

        Raises:
            CredentialError: A credential cannot be read or used.
            RuntimeError: The server cannot be reached or refuses us (the SDK's own error).
            TimeoutError: The time passed.
            ValueError: The address is invalid.
        """
        timeout = self.settings.connection.attempt_timeout
        if at_most is not None:
            timeout = min(timeout, at_most)
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                return await Client.connect(
                    **client_arguments(self.settings),
                    runtime=self.runtime,
                    identity=self.identity,
                    data_converter=self.data_converter,
                    interceptors=list(self.interceptors),
                    connect_timeout=timeout,
                )
        except TimeoutError as error:
            seconds = round(timeout.total_seconds(), 1)
            raise TimeoutError(f"no answer within {seconds:g} s") from error

    def _failed(
        self, error: Exception, attempts: int, seconds: float, *, final: bool
    ) -> ConnectionFailedError:
        temporal = self.settings.temporal
        proxy = self.settings.connection.proxy_for(temporal.address)
        text = (
            f"cannot connect to Temporal at {temporal.address} (namespace {temporal.namespace!r}, "
            f"{'with' if temporal.uses_tls else 'without'} TLS, {credential_name(temporal)}"
            f"{f', through the proxy {proxy.address}' if proxy else ''}): {reason_of(error)}. "
        )
        cause = cause_of(error)
        if cause is not None:
            text += f"{cause.cure}. "
        elif isinstance(error, TimeoutError):
            text += "Check TEMPORAL_ADDRESS, network policies and firewalls. "
        if proxy:
            text += "Check the proxy too (HTTPS_PROXY), or name the server in NO_PROXY. "
        if final:
            return ConnectionFailedError(f"{text}Trying again would not help")
        deadline = self.settings.connection.deadline.total_seconds()
        return ConnectionFailedError(
            f"{text}Tried {attempts} time{'' if attempts == 1 else 's'} in {seconds:.1f} s; "
            f"FLEET_CONNECTION_DEADLINE_SECONDS (now {deadline:g}) says how long to try"
        )


def client_arguments(settings: Settings) -> dict[str, Any]:
    """Return the arguments of ``Client.connect`` that settings and credential files give now.

    Raises:
        CredentialError: A credential cannot be read or used.
    """
    temporal = settings.temporal
    arguments: dict[str, Any] = {
        "target_host": temporal.address,
        "namespace": temporal.namespace,
        "api_key": read_api_key(temporal),
        "tls": read_tls(temporal),
        "rpc_metadata": dict(temporal.grpc_meta),
    }
    if proxy := settings.connection.proxy_for(temporal.address):
        arguments["http_connect_proxy_config"] = HttpConnectProxyConfig(
            target_host=proxy.address, basic_auth=proxy.basic_auth
        )
    return arguments


def read_api_key(temporal: TemporalSettings) -> str | None:
    """Return the API key as its file holds it now, or as it was set; None = there is none.

    Raises:
        CredentialError: The file cannot be read, or what it holds cannot be sent.
    """
    if temporal.api_key_file is not None:
        name = f"TEMPORAL_API_KEY_FILE ({temporal.api_key_file})"
        key = _read("TEMPORAL_API_KEY_FILE", temporal.api_key_file).decode(errors="replace").strip()
    elif temporal.api_key is not None:
        name, key = "TEMPORAL_API_KEY", temporal.api_key.get_secret_value().strip()
    else:
        return None
    if not key:
        raise CredentialError(f"{name} is empty")
    if not (key.isascii() and key.isprintable()):
        # The SDK would silently send no key at all when it holds a line break.
        raise CredentialError(f"{name} holds a line break or a character that no header may have")
    return key


def read_tls(temporal: TemporalSettings) -> bool | TLSConfig:
    """Return the TLS configuration with certificates as their files hold them now; False = no TLS.

    Raises:
        CredentialError: A file cannot be read, or is not PEM.
    """
    if not temporal.uses_tls:
        return False
    return TLSConfig(
        server_root_ca_cert=_pem(temporal, "server_ca_cert", b"CERTIFICATE"),
        client_cert=_pem(temporal, "client_cert", b"CERTIFICATE"),
        client_private_key=_pem(temporal, "client_key", b"PRIVATE KEY"),
        domain=temporal.tls_server_name,
    )


def credential_name(temporal: TemporalSettings) -> str:
    """Return which credentials are used, never their value."""
    names = []
    if temporal.api_key_file:
        names.append(f"the API key in {temporal.api_key_file}")
    elif temporal.api_key:
        names.append("an API key")
    if temporal.tls_client_cert_path:
        names.append(f"the client certificate in {temporal.tls_client_cert_path}")
    elif temporal.tls_client_cert_data:
        names.append("a client certificate")
    return " and ".join(names) or "no credentials"


def _pem(temporal: TemporalSettings, item: str, label: bytes) -> bytes | None:
    path: Path | None = getattr(temporal, f"tls_{item}_path")
    data: SecretStr | None = getattr(temporal, f"tls_{item}_data")
    name = f"TEMPORAL_TLS_{item.upper()}_{'PATH' if path else 'DATA'}"
    if path is not None:
        content, where = _read(name, path), f" ({path})"
    elif data is not None:
        content, where = data.get_secret_value().encode(), ""
    else:
        return None
    # The SDK would take an authority that holds no certificate for an empty list and trust nobody.
    if re.search(rb"-----BEGIN [A-Z ]*" + label + rb"-----", content) is None:
        raise CredentialError(f"{name}{where} holds no {label.decode().lower()} in PEM form")
    if b"BEGIN ENCRYPTED PRIVATE KEY" in content or b"Proc-Type: 4,ENCRYPTED" in content:
        raise CredentialError(
            f"{name}{where} holds a private key with a passphrase, which a worker cannot type in: "
            "store the key without one (`openssl pkey -in KEY -out NEW_KEY`)"
        )
    return content


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CredentialError(f"{name}: cannot read {path}: {error.strerror}") from error


async def check_namespace(client: Client) -> None:
    """Make sure that the client's namespace exists and that we may use it.

    Raises:
        ConnectionFailedError: It does not exist, or the server refuses us; with similar names if it says them.
    """
    request = DescribeNamespaceRequest(namespace=client.namespace)
    try:
        await client.workflow_service.describe_namespace(
            request, retry=True, timeout=NAMESPACE_TIMEOUT
        )
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            known = await _namespaces(client)
            raise ConnectionFailedError(_missing(client.namespace, known)) from error
        raise ConnectionFailedError(
            f"namespace {client.namespace!r} cannot be used: {error.message} ({error.status.name}). "
            "Check the credentials and TEMPORAL_NAMESPACE"
        ) from error


def _missing(namespace: str, known: Sequence[str]) -> str:
    text = f"namespace {namespace!r} does not exist on the server"
    if close := difflib.get_close_matches(namespace, known, n=1):
        text += f"; did you mean {close[0]!r}?"
    elif known:
        text += f"; it has: {', '.join(known[:10])}."
    else:
        text += "."
    return f"{text} Set TEMPORAL_NAMESPACE, or create it with `temporal operator namespace create`"


async def _namespaces(client: Client) -> list[str]:
    """Return the server's namespaces, or nothing where listing is not permitted: it only helps a message."""
    try:
        answer = await client.workflow_service.list_namespaces(
            ListNamespacesRequest(page_size=100), timeout=NAMESPACE_TIMEOUT
        )
    except RPCError as error:
        log.debug("namespaces cannot be listed", reason=error.message)
        return []
    names = (each.namespace_info.name for each in answer.namespaces)
    return [name for name in names if name != "temporal-system"]
