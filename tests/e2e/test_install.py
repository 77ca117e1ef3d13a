"""What the chart's README promises of an installation."""

from __future__ import annotations

import textwrap

import pytest
import yaml
from e2e_cluster import Namespace, Release, names, watched_pods
from e2e_load import first_step_done, start
from e2e_temporal import TemporalNamespace
from e2e_values import QUEUE, FleetValues, Images, Values, merged

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

OWN_KINDS = (
    "configmaps,secrets,services,serviceaccounts,deployments,jobs,horizontalpodautoscalers,"
    "poddisruptionbudgets,networkpolicies,roles,rolebindings"
)
MADE_BY_OTHERS = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}


async def test_ten_lines_of_values_install_a_fleet_that_passes_helm_test(
    images: Images, namespace: Namespace, release: Release
) -> None:
    """Ten lines of values make a working fleet of two workloads, and no pod of it breaks "restricted"."""
    text = textwrap.dedent(f"""\
        temporal:
          devServer: {{enabled: true, image: {{registry: localhost, tag: {images.tags["dev-server"][0]}}}}}
        queueDefaults:
          image: {{registry: localhost}}
        queues:
          orders:
            builds: {{blue: {{buildId: {images.tags["orders"][0]}}}}}
          payments:
            builds: {{blue: {{buildId: {images.tags["payments"][0]}}}}}
        """)
    assert len(text.splitlines()) <= 10

    async with watched_pods(namespace) as watch:
        await release.install(yaml.safe_load(text))
        await release.test()

    ran = {str(pod["metadata"]["name"]).rsplit("-", 1)[0] for pod in watch.pods.values()}
    assert {"fleet-routing", "fleet-test"} <= ran, f"hooks and test did not run, only {ran}"
    workers = await namespace.pods("temporal-fleet/build=blue")
    assert len(workers) == 4
    events = await namespace.objects("events")
    assert not [e["message"] for e in events if "violates PodSecurity" in e["message"]]


async def test_namespace_of_the_tests_refuses_a_pod_that_is_not_restricted(
    images: Images, namespace: Namespace
) -> None:
    """Pod Security is enforced where these tests install, so that passing it means something."""
    pod = {"containers": [{"name": "root", "image": images.reference("orders")}]}
    refused = await namespace.kubectl(
        *("run", "root", f"--image={images.reference('orders')}", "--restart=Never"), check=False
    )

    assert refused.code, pod
    assert "violates PodSecurity" in refused.stderr


async def test_two_upgrades_leave_no_orphan(
    namespace: Namespace, release: Release, values: FleetValues
) -> None:
    """After upgrades that add and remove builds and options, what exists is what the release renders."""
    options: Values = {
        "secretEnv": {"E2E_TOKEN": "first"},
        "replicas": 2,
        "autoscaling": {"enabled": True, "minReplicas": 2},
    }
    await release.install(merged(values.one(**options), {"networkPolicy": {"enabled": True}}))
    await release.upgrade(values.both("blue", **options))
    await release.upgrade(values.one())

    existing = {
        (each["kind"], each["metadata"]["name"])
        for each in await namespace.objects(OWN_KINDS)
        if not each["metadata"]["name"].startswith("sh.helm.release")
    }
    assert existing - MADE_BY_OTHERS == await release.manifest()


async def test_unchanged_upgrade_restarts_no_worker(
    namespace: Namespace, release: Release, values: FleetValues
) -> None:
    """An upgrade restarts no worker of a build whose configuration stays as it is."""
    await release.install(values.one())
    before = names(await namespace.pods("temporal-fleet/build=blue"))
    await release.upgrade(values.both("blue"))

    assert names(await namespace.pods("temporal-fleet/build=blue")) == before


async def test_unversioned_workers_become_versioned_and_back(
    release: Release, values: FleetValues, temporal: TemporalNamespace
) -> None:
    """A fleet without versioning goes to a first build and back, and open work goes on each time."""
    blue, green = values.images.first, values.images.second
    plain = {"buildId": blue, "versioned": False}
    builds = {"plain": plain, "green": values.green}
    await release.install(values.of({"plain": plain}))
    unversioned = await start(temporal.client, "AutoUpgradeSteps", steps=2, waits=True)
    await first_step_done(unversioned)

    await release.upgrade(values.of(builds, routing={"current": "plain"}))
    assert await executed_by(temporal) == blue
    await release.upgrade(values.of(builds, routing={"current": "green"}))
    assert await executed_by(temporal) == green
    assert (await temporal.routing(QUEUE)).current_deployment_version.build_id == green
    pinned = await start(temporal.client, steps=2, waits=True)
    await first_step_done(pinned)

    await release.upgrade(values.of(builds, routing={"current": "plain"}))
    assert await executed_by(temporal) == blue
    assert (await temporal.routing(QUEUE)).current_deployment_version.build_id == ""
    for handle in (unversioned, pinned):
        await handle.signal("proceed")
    assert len((await unversioned.result())["steps"]) == 2
    assert (await pinned.result())["workflow_builds"] == [green, green]


async def executed_by(temporal: TemporalNamespace) -> str:
    """Run a new workflow and return the build ID of the pod that executed it."""
    report = await (await start(temporal.client)).result()
    return str(report["steps"][0]["build_id"])
