"""Credentials that change while a worker runs, against a gateway that checks them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families
from rotation_workflows import ManyShort, OneLong, Work
from running_worker import running_worker
from structlog.testing import capture_logs
from temporalio.client import Client, WorkflowHandle
from temporalio.runtime import Runtime
from temporalio.worker import Worker
from tls_proxy import CertificateFiles, TlsProxy, client_certificate, tls_proxy

from temporal_fleet.client.connection import Connector
from temporal_fleet.client.credentials import CredentialWatcher
from temporal_fleet.payloads import data_converter
from temporal_fleet.settings import ConnectionSettings, Settings, TemporalSettings
from temporal_fleet.testing import dev_server

pytestmark = pytest.mark.integration

WORKFLOWS = 30
ACTIVITIES_EACH = 5
TASK_QUEUE = "rotation"


@dataclass
class Gateway:
    """A dev server behind a TLS gateway, and the files of a client."""

    server: Client
    """A client past the gateway, which needs no credentials."""
    proxy: TlsProxy
    authority: trustme.CA
    files: CertificateFiles
    key: Path
    clients: list[Client] = field(default_factory=list)
    """The clients that took over."""
    reloads: list[tuple[str, str]] = field(default_factory=list)

    def connector(self, **temporal: Any) -> Connector:
        """Return what connects through the gateway, unless other settings are given."""
        gateway = {
            "address": self.proxy.address,
            "tls_server_ca_cert_path": self.files.authority,
        }
        return Connector(
            settings=Settings(
                temporal=TemporalSettings(**(gateway | temporal)),
                connection=ConnectionSettings(
                    credentials_poll_interval=timedelta(seconds=0.05),
                    attempt_timeout=timedelta(seconds=5),
                ),
            ),
            runtime=Runtime.default(),
            identity="rotating",
            data_converter=data_converter(),
        )

    async def watcher(self, **temporal: Any) -> CredentialWatcher:
        """Connect through the gateway and watch the files."""
        connector = self.connector(**temporal)
        client = await connector.connect()
        return CredentialWatcher(
            connector, client, on_reload=lambda *reload: self.reloads.append(reload)
        )

    @property
    def pair(self) -> dict[str, Path]:
        """The settings of the client certificate."""
        return {
            "tls_client_cert_path": self.files.certificate,
            "tls_client_key_path": self.files.key,
        }

    async def start_load(self) -> list[WorkflowHandle[Any, Any]]:
        """Start the workflows with many short activities."""
        return [
            await self.server.start_workflow(
                ManyShort.run, ACTIVITIES_EACH, id=f"many-{number}", task_queue=TASK_QUEUE
            )
            for number in range(WORKFLOWS)
        ]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway of this test alone, which accepts everybody at first."""
    authority = trustme.CA()
    files = CertificateFiles.write(
        tmp_path / "tls", authority, client_certificate(authority, "client-one")
    )
    async with (
        dev_server() as environment,
        tls_proxy(environment.client.service_client.config.target_host, authority) as proxy,
    ):
        yield Gateway(environment.client, proxy, authority, files, tmp_path / "key")


@asynccontextmanager
async def running(
    gateway: Gateway, watcher: CredentialWatcher
) -> AsyncIterator[tuple[Worker, Work]]:
    """Run a worker whose client the watcher swaps, and the watcher's own loop."""
    work = Work()
    worker = Worker(
        watcher.client,
        task_queue=TASK_QUEUE,
        workflows=[ManyShort, OneLong],
        activities=work.all,
        max_concurrent_activities=5,
        max_heartbeat_throttle_interval=timedelta(seconds=0.1),
        default_heartbeat_throttle_interval=timedelta(seconds=0.1),
    )

    def swap(client: Client) -> None:
        worker.client = client
        gateway.clients.append(client)

    async with worker:
        watching = asyncio.create_task(watcher.run(swap))
        try:
            yield worker, work
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching


async def until(condition: Any, *, timeout: float = 20) -> None:
    """Wait until something outside of this test's control holds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


async def test_api_key_rotated_under_load_loses_nothing(gateway: Gateway, tmp_path: Path) -> None:
    """A key replaced as Kubernetes does it is used at once: no call is refused, no attempt repeated."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(f"key-{name}\n")
    (tmp_path / "..data").symlink_to("one")
    gateway.proxy.api_keys = {"key-one"}
    watcher = await gateway.watcher(api_key_file=tmp_path / "..data" / "key")
    with capture_logs() as logs:
        async with running(gateway, watcher) as (_, work):
            handles = await gateway.start_load()
            await work.reached(20)
            gateway.proxy.api_keys = {"key-one", "key-two"}
            (tmp_path / "new").symlink_to("two")
            (tmp_path / "new").rename(tmp_path / "..data")
            await until(lambda: gateway.reloads)
            # Calls begun with the old key just before are still on their way; keys overlap for that.
            await until(lambda: sum(c.api_key == "key-two" for c in gateway.proxy.calls) >= 10)
            gateway.proxy.api_keys = {"key-two"}
            at_rotation = work.finished
            results = [await handle.result() for handle in handles]

    assert results == [ACTIVITIES_EACH] * WORKFLOWS
    assert work.finished == WORKFLOWS * ACTIVITIES_EACH >= 100
    assert at_rotation < work.finished, "the rotation came after the load"
    assert not work.attempts
    assert not [call for call in gateway.proxy.calls if not call.accepted]
    assert gateway.reloads == [("api_key", "ok")]
    assert not gateway.clients, "an API key needs no new client"
    assert [line for line in logs if line["event"] == "credentials reloaded"] == [
        {"event": "credentials reloaded", "kind": "api_key", "log_level": "info"}
    ]
    assert "key-one" not in str(logs)
    assert "key-two" not in str(logs)


async def test_certificate_rotated_under_load_goes_on_through_the_new_connection(
    gateway: Gateway,
) -> None:
    """With a new certificate a running activity reports as the new client, and nothing is lost."""
    await gateway.proxy.accept(gateway.authority)
    watcher = await gateway.watcher(**gateway.pair)
    first = watcher.client
    async with running(gateway, watcher) as (worker, work):
        long = await gateway.server.start_workflow(OneLong.run, id="long", task_queue=TASK_QUEUE)
        handles = await gateway.start_load()
        await work.reached(20)
        await work.beating.wait()
        calls = gateway.proxy.calls
        await until(lambda: ("RecordActivityTaskHeartbeat", "client-one") in names(calls))
        gateway.files.replace(client_certificate(gateway.authority, "client-two"))
        await until(lambda: gateway.clients)
        at_rotation = work.finished
        await until(lambda: ("RecordActivityTaskHeartbeat", "client-two") in names(calls))
        long_began = len(calls)
        work.released.set()
        results = [await handle.result() for handle in handles]

        assert await long.result() == "released"
        assert worker.client is watcher.client is gateway.clients[-1] is not first
    assert results == [ACTIVITIES_EACH] * WORKFLOWS
    assert at_rotation < work.finished == WORKFLOWS * ACTIVITIES_EACH
    assert not work.attempts
    completed = {name for name in names(calls[long_began:]) if name[0].endswith("TaskCompleted")}
    assert completed
    assert {peer for _, peer in completed} == {"client-two"}
    assert gateway.reloads[-1] == ("tls", "ok")


def names(calls: list[Any]) -> set[tuple[str, str | None]]:
    """Return methods and peers of calls."""
    return {(call.method, call.peer) for call in calls}


async def test_certificate_that_is_half_replaced_keeps_the_old_client(gateway: Gateway) -> None:
    """A certificate whose key is not there yet changes nothing, is logged once, and heals by itself."""
    await gateway.proxy.accept(gateway.authority)
    watcher = await gateway.watcher(**gateway.pair)
    first = watcher.client
    key = gateway.files.key.read_bytes()
    gateway.files.replace(client_certificate(gateway.authority, "client-two"))
    new_key = gateway.files.key.read_bytes()
    gateway.files.key.write_bytes(key)
    with capture_logs() as logs:
        await watcher.look(gateway.clients.append)
        await watcher.look(gateway.clients.append)
        assert watcher.client is first
        gateway.files.key.write_bytes(new_key)
        await watcher.look(gateway.clients.append)

    assert watcher.client is gateway.clients[0] is not first
    assert gateway.reloads == [("tls", "failed"), ("tls", "failed"), ("tls", "ok")]
    assert [line["log_level"] for line in logs] == ["warning", "info"]
    assert "do not belong together" in logs[0]["reason"]


async def test_certificate_the_server_does_not_accept_yet_is_tried_again(gateway: Gateway) -> None:
    """A certificate of a new authority takes over only when the server knows that authority."""
    await gateway.proxy.accept(gateway.authority)
    watcher = await gateway.watcher(**gateway.pair)
    first, another = watcher.client, trustme.CA()
    gateway.files.replace(client_certificate(another, "client-three"))
    await watcher.look(gateway.clients.append)

    assert watcher.client is first
    assert gateway.reloads == [("tls", "failed")]
    await gateway.proxy.accept(another)
    await watcher.look(gateway.clients.append)
    assert watcher.client is gateway.clients[0]
    assert gateway.proxy.calls[-1].peer == "client-three"


async def test_client_that_the_worker_refuses_is_not_taken(gateway: Gateway) -> None:
    """When the new client cannot be given to the worker, everybody keeps the old one."""
    watcher = await gateway.watcher(**gateway.pair)
    first = watcher.client
    gateway.files.replace(client_certificate(gateway.authority, "client-two"))

    def refuse(_client: Client) -> None:
        raise ValueError("another runtime")

    with capture_logs() as logs:
        await watcher.look(refuse)

    assert watcher.client is first
    assert logs[0]["reason"] == "another runtime"


async def test_api_key_file_that_vanishes_is_told_once_and_the_key_kept(gateway: Gateway) -> None:
    """Without its file the key in use stays, with one warning; the same key again is no reload."""
    gateway.proxy.api_keys = {"good"}
    gateway.key.write_text("good")
    watcher = await gateway.watcher(api_key_file=gateway.key)
    gateway.key.unlink()
    with capture_logs() as logs:
        await watcher.look(gateway.clients.append)
        await watcher.look(gateway.clients.append)
        assert watcher.client.api_key == "good"
        gateway.key.write_text("good")
        await watcher.look(gateway.clients.append)
        await watcher.look(gateway.clients.append)

    assert [line["log_level"] for line in logs] == ["warning", "info"]
    assert f"cannot read {gateway.key}" in logs[0]["reason"]
    assert ("api_key", "ok") not in gateway.reloads


async def test_key_that_changes_while_connecting_is_not_missed(gateway: Gateway) -> None:
    """A key replaced between the first connection and the first look is taken at that look."""
    gateway.key.write_text("early")
    connector = gateway.connector(api_key_file=gateway.key)
    client = await connector.connect()
    gateway.key.write_text("late")
    await CredentialWatcher(connector, client).look(gateway.clients.append)

    assert client.api_key == "late"


async def test_certificate_change_takes_the_current_api_key_along(gateway: Gateway) -> None:
    """A client that takes over has the key of now, not of the start."""
    gateway.key.write_text("early")
    watcher = await gateway.watcher(api_key_file=gateway.key, **gateway.pair)
    gateway.key.write_text("late")
    gateway.files.replace(client_certificate(gateway.authority, "client-two"))
    gateway.proxy.api_keys = {"late"}
    await watcher.look(gateway.clients.append)

    assert gateway.reloads == [("api_key", "ok"), ("tls", "ok")]
    assert watcher.client.api_key == "late"


async def test_watcher_without_files_has_nothing_to_do(gateway: Gateway) -> None:
    """Credentials given as values cannot change, so the watcher ends at once."""
    address = gateway.server.service_client.config.target_host
    watcher = await gateway.watcher(address=address, tls_server_ca_cert_path=None)
    async with asyncio.timeout(1):
        await watcher.run(gateway.clients.append)


async def test_worker_process_follows_rotation_under_load_and_tells_revocation(
    gateway: Gateway, tmp_path: Path
) -> None:
    """A real worker takes both credentials over, loses nothing, and is not ready while revoked."""
    proxy = gateway.proxy
    await proxy.accept(gateway.authority)
    proxy.api_keys = {"key-one"}
    gateway.key.write_text("key-one")
    environment = {
        "TEMPORAL_API_KEY_FILE": str(gateway.key),
        "TEMPORAL_TLS_CLIENT_CERT_PATH": str(gateway.files.certificate),
        "TEMPORAL_TLS_CLIENT_KEY_PATH": str(gateway.files.key),
        "TEMPORAL_TLS_SERVER_CA_CERT_PATH": str(gateway.files.authority),
        "FLEET_CONNECTION_CREDENTIALS_POLL_INTERVAL_SECONDS": "0.1",
        "FLEET_CONNECTION_PROBE_INTERVAL_SECONDS": "0.2",
        "FLEET_CONCURRENCY_ACTIVITIES": "10",
    }
    async with running_worker(proxy.address, environment=environment) as worker:
        await worker.logged("polling")
        handles = [
            await gateway.server.start_workflow(
                "RunActivity",
                args=["nap_async", str(tmp_path), 0.5],
                id=f"nap-{n}",
                task_queue="sample",
            )
            for n in range(120)
        ]
        await handles[0].result()
        proxy.api_keys = {"key-one", "key-two"}
        gateway.key.write_text("key-two")
        await until(lambda: "key-two" in {call.api_key for call in proxy.calls})
        gateway.files.replace(client_certificate(gateway.authority, "client-two"))
        await until(lambda: ("RespondActivityTaskCompleted", "client-two") in names(proxy.calls))
        proxy.api_keys = {"key-two"}
        results = {await handle.result() for handle in handles}
        refused_under_load = [call for call in proxy.calls if not call.accepted]
        metrics = (await worker.get("/metrics"))[1]
        proxy.api_keys = set()
        await worker.logged("worker is not ready")
        status, explanation = await worker.get("/readyz?verbose")
        proxy.api_keys = {"key-two"}
        await until(lambda: len(worker.events("worker is ready")) == 2)
        worker.signal()
        assert await worker.exit_code() == 0

    assert results == {"attempt 1"}
    assert not refused_under_load
    assert status == 503
    assert "the server refuses our credentials" in explanation
    for kind in ("api_key", "tls"):
        assert reloads(metrics, kind, "ok") == 1, metrics
    assert "key-one" not in worker.text
    assert "key-two" not in worker.text


def reloads(metrics: str, kind: str, outcome: str) -> float:
    """Return what the counter of reloads says."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == "fleet_credential_reloads_total"
        and (sample.labels["kind"], sample.labels["outcome"]) == (kind, outcome)
    )
