"""What keeps builds that still have work from being removed."""

from __future__ import annotations

import pytest
from e2e_cluster import Namespace, Release, names
from e2e_load import first_step_done, start
from e2e_temporal import TemporalNamespace
from e2e_values import QUEUE, FleetValues, merged

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]


async def test_upgrade_that_would_drop_an_undrained_build_is_refused_and_names_the_runs(
    namespace: Namespace, release: Release, values: FleetValues, temporal: TemporalNamespace
) -> None:
    """Helm changes nothing and the message names build and runs; the build goes when it is forced by name."""
    blue = values.images.first
    await release.install(values.both("blue"))
    runs = [await start(temporal.client, steps=2, waits=True) for _ in range(2)]
    for run in runs:
        await first_step_done(run)
    await release.upgrade(values.both("green"))
    without_blue = values.of({"green": values.green})
    refused = await release.upgrade(without_blue, check=False)

    assert refused.code
    message = refused.text + await namespace.logs("job/fleet-guard-upgrade")
    assert blue in message
    for run in runs:
        assert run.id in message
        assert run.result_run_id
        assert run.result_run_id in message
    assert names(await namespace.objects("deployments")) == ["fleet-e2e-blue", "fleet-e2e-green"]
    for run in runs:
        await run.signal("proceed")
        assert (await run.result())["workflow_builds"] == [blue, blue]

    await start(temporal.client)
    forced = {"hooks": {"guard": {"forceRemoveBuilds": [f"{QUEUE}/{blue}"]}}}
    await release.upgrade(merged(without_blue, forced))
    assert names(await namespace.objects("deployments")) == ["fleet-e2e-green"]


async def test_upgrade_with_a_forced_build_removes_it_with_open_runs(
    namespace: Namespace, release: Release, values: FleetValues, temporal: TemporalNamespace
) -> None:
    """A build that is named in the values goes although it has work, and so does nothing else."""
    blue = values.images.first
    await release.install(values.both("blue"))
    await first_step_done(await start(temporal.client, steps=2, waits=True))
    await release.upgrade(values.both("green"))
    without_blue = values.of({"green": values.green})
    other = {"hooks": {"guard": {"forceRemoveBuilds": [f"{QUEUE}/other"]}}}
    refused = await release.upgrade(merged(without_blue, other), check=False)
    assert refused.code

    forced = {"hooks": {"guard": {"forceRemoveBuilds": [f"{QUEUE}/{blue}"]}}}
    await release.upgrade(merged(without_blue, forced))
    assert names(await namespace.objects("deployments")) == ["fleet-e2e-green"]


async def test_uninstallation_with_open_runs_is_refused_until_they_are_done(
    namespace: Namespace, release: Release, values: FleetValues, temporal: TemporalNamespace
) -> None:
    """`helm uninstall` leaves a fleet with open runs as it is and names them; without any it removes all."""
    await release.install(values.one())
    run = await start(temporal.client, steps=2, waits=True)
    await first_step_done(run)
    refused = await release.uninstall(check=False)

    assert refused.code
    message = refused.text + await namespace.logs("job/fleet-guard-uninstall")
    assert run.id in message
    assert names(await namespace.objects("deployments")) == ["fleet-e2e-blue"]

    await run.signal("proceed")
    await run.result()
    await release.uninstall("--wait")
    assert not await namespace.objects("deployments,configmaps", "app.kubernetes.io/instance=fleet")


async def test_uninstallation_without_hooks_is_the_forced_way(
    namespace: Namespace, release: Release, values: FleetValues, temporal: TemporalNamespace
) -> None:
    """`helm uninstall --no-hooks` removes a fleet whatever it does."""
    await release.install(values.one())
    await first_step_done(await start(temporal.client, steps=2, waits=True))
    await release.uninstall("--no-hooks")

    assert not await namespace.objects("deployments")
