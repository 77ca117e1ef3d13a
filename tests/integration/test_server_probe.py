"""What the server says about a worker: does it accept us, and does it see our pollers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
import trustme
from rotation_workflows import ManyShort, Work
from structlog.testing import capture_logs
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.runtime import Runtime
from temporalio.worker import Worker, WorkerDeploymentConfig
from tls_proxy import PERMISSION_DENIED, UNAUTHENTICATED, CertificateFiles, TlsProxy, tls_proxy

from temporal_fleet.client.connection import Connector
from temporal_fleet.client.pollers import TaskType, describe_task_queue
from temporal_fleet.health import probe as server_probe
from temporal_fleet.health import routing_notice
from temporal_fleet.health.probe import ServerProbe, kinds_of
from temporal_fleet.health.state import HealthState, Phase
from temporal_fleet.payloads import data_converter
from temporal_fleet.settings import (
    ConnectionSettings,
    DeploymentSettings,
    Settings,
    TemporalSettings,
)
from temporal_fleet.testing import dev_server

pytestmark = pytest.mark.integration

IDENTITY = "pod-1:1:probed"
TASK_QUEUE = "probed"


@dataclass
class Probed:
    """A client behind a gateway whose mind can be changed, and what is known about its worker."""

    proxy: TlsProxy
    client: Client
    state: HealthState = field(default_factory=HealthState)

    def probe(
        self,
        kinds: Sequence[TaskType] = ("workflow", "activity"),
        *,
        build_id: str | None = None,
        identity: str = IDENTITY,
    ) -> ServerProbe:
        """Return a probe of a worker that polls these kinds."""
        return ServerProbe(
            Settings(
                connection=ConnectionSettings(probe_interval=timedelta(seconds=0.2)),
                deployment=DeploymentSettings(
                    build_id=build_id,
                    default_versioning_behavior="pinned" if build_id else None,
                ),
            ),
            client=lambda: self.client,
            task_queue=TASK_QUEUE,
            kinds=kinds,
            identity=identity,
            state=self.state,
        )

    def worker(self, *, build_id: str | None = None, identity: str = IDENTITY) -> Worker:
        """Return a worker of workflows and activities."""
        deployment = None
        if build_id:
            deployment = WorkerDeploymentConfig(
                version=WorkerDeploymentVersion("probed", build_id),
                use_worker_versioning=True,
                default_versioning_behavior=VersioningBehavior.PINNED,
            )
        return Worker(
            self.client,
            task_queue=TASK_QUEUE,
            workflows=[ManyShort],
            activities=Work().all,
            identity=identity,
            deployment_config=deployment,
        )


@pytest.fixture
async def probed(tmp_path: Path) -> AsyncIterator[Probed]:
    """A client of a gateway and dev server of this test alone."""
    authority = trustme.CA()
    files = CertificateFiles.write(tmp_path, authority)
    async with (
        dev_server() as environment,
        tls_proxy(environment.client.service_client.config.target_host, authority) as proxy,
    ):
        temporal = TemporalSettings(
            address=proxy.address, tls_server_ca_cert_path=files.authority, api_key="first"
        )
        connector = Connector(
            settings=Settings(temporal=temporal),
            runtime=Runtime.default(),
            identity=IDENTITY,
            data_converter=data_converter(),
        )
        yield Probed(proxy, await connector.connect())


async def test_pollers_are_confirmed_once_a_real_worker_polls(probed: Probed) -> None:
    """Without a worker the pollers are missing by name; with one they are soon confirmed."""
    probe = probed.probe()

    assert not await probe.ask()
    assert probed.state.failures() == {
        "pollers": f"the server sees no workflow and no activity poller of {IDENTITY}"
    }
    async with probed.worker(), asyncio.timeout(10):
        await probe.confirm_pollers()
        assert not probed.state.failures()


async def test_pollers_of_somebody_else_are_not_ours(probed: Probed) -> None:
    """Another worker on the same task queue does not make this one ready."""
    async with probed.worker(identity="pod-2:1:probed"):
        async with asyncio.timeout(10):
            await probed.probe(identity="pod-2:1:probed").confirm_pollers()

        assert not await probed.probe().ask()


async def test_kind_that_nobody_polls_is_named(probed: Probed) -> None:
    """A kind of task without a poller is missing although the others are polled."""
    async with probed.worker():
        async with asyncio.timeout(10):
            await probed.probe().confirm_pollers()

        assert not await probed.probe(["workflow", "activity", "nexus"]).ask()
        assert probed.state.failures()["pollers"].startswith("the server sees no nexus poller")


async def test_pollers_with_another_build_id_are_not_ours(probed: Probed) -> None:
    """While versioning is on the pollers count only with this worker's build ID."""
    async with probed.worker(build_id="1.0-abc"):
        async with asyncio.timeout(10):
            await probed.probe(build_id="1.0-abc").confirm_pollers()

        assert not await probed.probe(build_id="2.0-def").ask()
        assert probed.state.failures()["pollers"].endswith("with build ID 2.0-def")


async def test_worker_whose_build_is_not_current_says_so_once(
    probed: Probed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is ready but routed no new work says so once; one whose build is current does not."""
    monkeypatch.setattr(routing_notice, "UNROUTED_LIMIT", timedelta(0))
    async with probed.worker(build_id="1.0-abc"):
        probe = probed.probe(build_id="1.0-abc")
        with capture_logs() as before:
            async with asyncio.timeout(10):
                await probe.confirm_pollers()
            await probe.ask()
        await set_current(probed.client, "1.0-abc")
        with capture_logs() as after:
            await probed.probe(build_id="1.0-abc").ask()

    assert [(line["log_level"], line["routed_to"]) for line in before] == [
        ("warning", ["workers without versioning"])
    ]
    assert after == []


async def set_current(client: Client, build_id: str) -> None:
    """Make a build current, and wait until the task queue has it."""
    await client.workflow_service.set_worker_deployment_current_version(
        SetWorkerDeploymentCurrentVersionRequest(
            namespace=client.namespace, deployment_name="probed", build_id=build_id
        )
    )
    while True:
        answer = await describe_task_queue(
            client, TASK_QUEUE, "workflow", timeout=timedelta(seconds=5)
        )
        if answer.versioning_info.current_deployment_version.build_id == build_id:
            return
        await asyncio.sleep(0.05)


async def test_pollers_of_the_process_before_are_not_ours(probed: Probed) -> None:
    """A restarted container has its predecessor's identity; pollers that have gone confirm nothing."""
    async with probed.worker(), asyncio.timeout(10):
        await probed.probe().confirm_pollers()

    assert await probed.probe().ask(), "the server forgot the former pollers at once"
    probe = probed.probe()
    await probe.remember_former_pollers()
    assert not await probe.ask()
    async with probed.worker(), asyncio.timeout(10):
        await probe.confirm_pollers()


@pytest.mark.parametrize("refusal", [UNAUTHENTICATED, PERMISSION_DENIED])
async def test_revoked_key_makes_not_ready_at_once_until_it_is_restored(
    probed: Probed, refusal: int
) -> None:
    """One refusal is enough to be not ready, with the reason; accepted again, ready again."""
    probe = probed.probe()
    async with probed.worker(), asyncio.timeout(10):
        await probe.confirm_pollers()
        probed.state.set_phase(Phase.POLLING)
        assert probed.state.ready
        probed.proxy.api_keys, probed.proxy.refusal = {"second"}, refusal
        await probe.ask()
        assert not probed.state.ready
        assert "the server refuses our credentials" in probed.state.failures()["temporal"]
        probed.client.api_key = "second"
        await probe.ask()
        assert probed.state.ready


async def test_server_away_once_keeps_ready_and_twice_does_not(probed: Probed) -> None:
    """A single failed question is no reason to flip; the second in a row is, and an answer heals."""
    probe = probed.probe()
    async with probed.worker(), asyncio.timeout(20):
        await probe.confirm_pollers()
        probed.state.set_phase(Phase.POLLING)
        probed.proxy.stop_listening()
        probed.proxy.cut_connections()
        await probe.ask()
        assert probed.state.ready
        await probe.ask()
        assert not probed.state.ready
        assert "the server does not answer" in probed.state.failures()["temporal"]
        await probed.proxy.accept(None)
        while not probed.state.ready:  # the client's connection needs a moment to come back
            await probe.ask()


async def test_probe_while_it_runs_keeps_readiness_up_to_date(probed: Probed) -> None:
    """Left to itself, the probe finds out that credentials are revoked and restored."""
    probe = probed.probe()
    async with probed.worker(), asyncio.timeout(20):
        await probe.confirm_pollers()
        probed.state.set_phase(Phase.POLLING)
        probing = asyncio.create_task(probe.run())
        probed.proxy.api_keys = set()
        while probed.state.ready:
            await asyncio.sleep(0.02)
        probed.proxy.api_keys = None
        while not probed.state.ready:
            await asyncio.sleep(0.02)
        probing.cancel()
        await asyncio.wait({probing})


async def test_pollers_that_do_not_come_are_warned_about_and_asked_for_less_often(
    probed: Probed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the fast phase one warning says what is missing, and the server is spared."""
    monkeypatch.setattr(server_probe, "SLOW_START", timedelta(seconds=0.2))
    with capture_logs() as logs:
        confirming = asyncio.create_task(probed.probe().confirm_pollers())
        async with asyncio.timeout(10):
            while not logs:
                await asyncio.sleep(0.02)
        before = len(probed.proxy.calls)
        await asyncio.wait({confirming}, timeout=1)
        confirming.cancel()
        await asyncio.wait({confirming})

    assert [line["event"] for line in logs] == ["the server does not see our pollers yet"]
    assert logs[0]["task_queue"] == TASK_QUEUE
    # One question is a call for each of the server's four partitions.
    assert 2 <= len(probed.proxy.calls) - before <= 4 * 14


def test_kinds_follow_what_is_registered() -> None:
    """Only what is registered is polled, so only that is asked for."""
    assert kinds_of([object], [], [object]) == ["workflow", "nexus"]
