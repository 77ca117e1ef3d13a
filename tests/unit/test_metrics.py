"""What a worker counts, how it is exposed, and the SDK's runtime beside it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from temporal_fleet.health.server import HealthServer
from temporal_fleet.health.state import HealthState
from temporal_fleet.settings import (
    DeploymentSettings,
    HealthSettings,
    MetricsSettings,
    Settings,
    WorkerSettings,
)
from temporal_fleet.telemetry.metrics import (
    Metrics,
    build_runtime,
    deployment_labels,
    reference_markdown,
)
from temporal_fleet.telemetry.metrics.families import DERIVED_FAMILIES, WORKER_FAMILIES, Family
from temporal_fleet.telemetry.metrics.reference import SDK_BUCKETS


@pytest.fixture
def metrics() -> Metrics:
    """The metrics of a worker of the workload `orders`."""
    return Metrics(Settings(), workload="orders")


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return the samples of a Prometheus text, by name and sorted labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """Return what one sample of the rendered metrics says."""
    return samples(metrics.render().decode())[name, tuple(sorted(labels.items()))]


def test_labels_without_build_id_say_unversioned() -> None:
    """A worker without a build ID is labelled with the word that Temporal has for it."""
    assert deployment_labels(Settings(), workload="orders") == {
        "deployment": "orders",
        "build_id": "__unversioned__",
    }


def test_labels_with_deployment_name_and_build_id_are_those() -> None:
    """Deployment name and build ID come from the settings when they are set."""
    settings = Settings(deployment=DeploymentSettings(name="orders-eu", build_id="1.2-abc"))

    assert deployment_labels(settings, workload="orders") == {
        "deployment": "orders-eu",
        "build_id": "1.2-abc",
    }


def test_worker_state_is_one_for_the_current_phase_only(metrics: Metrics) -> None:
    """Exactly one state has the value 1."""
    metrics.set_state("draining")

    states = {
        dict(labels)["state"]: number
        for (name, labels), number in samples(metrics.render().decode()).items()
        if name == "fleet_worker_state"
    }

    assert states == {"starting": 0, "polling": 0, "draining": 1, "stopped": 0}


def test_activity_finished_counts_outcome_and_time(metrics: Metrics) -> None:
    """Attempts and the time they took are counted by type and outcome."""
    metrics.activity_finished("charge", "completed", 0.5)
    metrics.activity_finished("charge", "completed", 0.25)
    metrics.activity_finished("charge", "failed", 2.0)

    assert (
        value(metrics, "fleet_activity_outcomes_total", activity_type="charge", outcome="completed")
        == 2
    )
    assert (
        value(metrics, "fleet_activity_seconds_total", activity_type="charge", outcome="completed")
        == 0.75
    )
    assert (
        value(metrics, "fleet_activity_seconds_total", activity_type="charge", outcome="failed")
        == 2
    )


def test_counters_without_labels_start_at_zero(metrics: Metrics) -> None:
    """A counter that nothing has happened to yet is there, so that alerts can use its rate."""
    assert value(metrics, "fleet_event_loop_blocked_total") == 0
    assert value(metrics, "fleet_health_server_restarts_total") == 0

    metrics.loop_blocked()
    metrics.health_server_restarted()
    metrics.credential_reload("api_key", "ok")
    metrics.connect_attempt("failed")
    metrics.activity_abandoned("charge")

    assert value(metrics, "fleet_event_loop_blocked_total") == 1
    assert value(metrics, "fleet_health_server_restarts_total") == 1
    assert value(metrics, "fleet_credential_reloads_total", kind="api_key", outcome="ok") == 1
    assert value(metrics, "fleet_connect_attempts_total", outcome="failed") == 1
    assert value(metrics, "fleet_abandoned_activities_total", activity_type="charge") == 1


def test_loop_lag_is_a_cumulative_histogram(metrics: Metrics) -> None:
    """A lag counts in every bucket whose bound it does not exceed."""
    for lag in (0.001, 0.002, 0.3, 20):
        metrics.loop_lag(lag)

    assert value(metrics, "fleet_event_loop_lag_seconds_bucket", le="0.001") == 1
    assert value(metrics, "fleet_event_loop_lag_seconds_bucket", le="0.005") == 2
    assert value(metrics, "fleet_event_loop_lag_seconds_bucket", le="10.0") == 3
    assert value(metrics, "fleet_event_loop_lag_seconds_bucket", le="+Inf") == 4
    assert value(metrics, "fleet_event_loop_lag_seconds_count") == 4
    assert value(metrics, "fleet_event_loop_lag_seconds_sum") == pytest.approx(20.303)


def test_watched_pools_are_read_at_each_scrape(metrics: Metrics) -> None:
    """Pool metrics are what the pools say at that moment."""
    in_use = [3]
    metrics.watch_thread_pool(size=lambda: 10, in_use=lambda: in_use[0], waiting=lambda: 6)
    metrics.watch_process_pool(
        size=lambda: 2, in_use=lambda: 1, waiting=lambda: 5, restarts=lambda: 4
    )
    metrics.watch_drain(lambda: 1.5)
    assert value(metrics, "fleet_thread_pool_in_use") == 3

    in_use[0] = 7

    assert value(metrics, "fleet_thread_pool_in_use") == 7
    assert value(metrics, "fleet_thread_pool_size") == 10
    assert value(metrics, "fleet_thread_pool_waiting") == 6
    assert value(metrics, "fleet_process_pool_size") == 2
    assert value(metrics, "fleet_process_pool_restarts_total") == 4
    assert value(metrics, "fleet_drain_duration_seconds") == 1.5


def test_render_has_metrics_of_process_and_of_workloads(metrics: Metrics) -> None:
    """What a workload registers with prometheus_client is served, and so is the process."""
    from prometheus_client import REGISTRY, Counter

    captured = Counter("payments_captured", "Payments captured.")
    try:
        captured.inc(3)
        text = metrics.render().decode()
    finally:
        REGISTRY.unregister(captured)

    assert samples(text)["payments_captured_total", ()] == 3
    assert "\nprocess_cpu_seconds_total " in text
    assert "\npython_gc_collections_total{" in text
    assert "_created" not in text


def test_every_declared_family_is_exposed(metrics: Metrics) -> None:
    """The tables behind the reference and the exposition are the same."""
    metrics.watch_thread_pool(size=lambda: 1, in_use=lambda: 0, waiting=lambda: 0)
    metrics.watch_process_pool(
        size=lambda: 1, in_use=lambda: 0, waiting=lambda: 0, restarts=lambda: 0
    )

    text = metrics.render().decode()

    exposed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE fleet_")}
    assert exposed == {family.name for family in WORKER_FAMILIES}


def test_reference_names_every_family_of_ours() -> None:
    """The reference has a row for each metric, with type, labels and meaning."""
    text = reference_markdown()

    for family in (*WORKER_FAMILIES, *DERIVED_FAMILIES):
        assert f"| `{family.name}` | {family.kind} |" in text
    assert "`temporal_activity_schedule_to_start_latency_seconds` | histogram |" in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= 110


@pytest.mark.parametrize("family", [*WORKER_FAMILIES, *DERIVED_FAMILIES], ids=lambda f: f.name)
def test_family_follows_the_naming_rules_of_prometheus(family: Family) -> None:
    """Names are snake case with base units, and exactly the counters end in `_total`."""
    assert re.fullmatch(r"fleet(_[a-z]+)+", family.name)
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert not re.search(
        r"_(ms|milliseconds|minutes|percent|gauge|counter|histogram)$", family.name
    )
    assert family.help.endswith(".")
    assert not {"deployment", "build_id", "le"} & set(family.labels)


def test_importing_metrics_imports_no_prometheus_client() -> None:
    """A worker's start does not pay for rendering metrics that nobody has asked for yet."""
    code = (
        "import sys; from temporal_fleet.telemetry.metrics import Metrics; "
        "from temporal_fleet.settings import Settings; "
        "m = Metrics(Settings(), workload='x'); m.activity_finished('a', 'completed', 1.0); "
        "sys.exit('prometheus_client' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_activity_finished_costs_microseconds(metrics: Metrics) -> None:
    """Counting an activity is far below anything else that an activity costs."""
    began = time.thread_time()
    for _ in range(10_000):
        metrics.activity_finished("charge", "completed", 0.5)

    assert (time.thread_time() - began) / 10_000 < 20e-6


def core_text(port: int) -> str:
    """Return what is served at `/metrics` on a port of loopback."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        return str(response.read().decode())


def test_runtime_metrics_are_on_loopback_with_labels_and_units() -> None:
    """Core metrics carry deployment, build ID, seconds and our buckets, and are on loopback."""
    settings = Settings(
        deployment=DeploymentSettings(build_id="b1", versioning=False),
        metrics=MetricsSettings(schedule_to_start_buckets=(0.5, 60.0), latency_buckets=(0.25,)),
    )
    runtime, port = build_runtime(settings, workload="orders")
    meter = runtime.metric_meter
    meter.create_counter("orders_seen", "Orders seen.").add(2, {"kind": "new"})
    for name in ("activity_schedule_to_start_latency", "activity_execution_latency"):
        meter.create_histogram_timedelta(f"temporal_{name}").record(timedelta(seconds=1))

    assert port is not None
    found = samples(core_text(port))

    labels = (("build_id", "b1"), ("deployment", "orders"))
    waited, ran = (
        "temporal_activity_schedule_to_start_latency",
        "temporal_activity_execution_latency",
    )
    assert found["orders_seen_total", (*labels, ("kind", "new"))] == 2
    assert found[f"{waited}_seconds_bucket", (*labels, ("le", "60"))] == 1
    assert found[f"{ran}_seconds_bucket", (*labels, ("le", "0.25"))] == 0
    assert not any(name == "service_name" for _, pairs in found for name, _ in pairs)


def test_histograms_of_workloads_have_the_buckets_that_the_reference_names() -> None:
    """What `metric_meter()` records keeps the SDK's buckets, which the latency buckets leave alone."""
    settings = Settings(metrics=MetricsSettings(latency_buckets=(0.25,)))
    runtime, port = build_runtime(settings, workload="orders")
    runtime.metric_meter.create_histogram_timedelta("render_time").record(timedelta(seconds=1))

    assert port is not None
    found = samples(core_text(port))

    bounds = [dict(labels)["le"] for name, labels in found if name == "render_time_seconds_bucket"]
    assert bounds == [*SDK_BUCKETS, "+Inf"]
    assert f"{', '.join(SDK_BUCKETS[:-1])} and {SDK_BUCKETS[-1]}" in reference_markdown()


def test_histograms_of_workloads_can_have_buckets_of_their_own() -> None:
    """Buckets set for a histogram's name, without its unit, are those it is exposed with."""
    listed = "page_bytes=1000,1e6 render_time=0.5,3"
    settings = Settings(metrics=MetricsSettings(histogram_buckets=listed))
    runtime, port = build_runtime(settings, workload="orders")
    runtime.metric_meter.create_histogram("page_bytes", unit="By").record(250_000)
    runtime.metric_meter.create_histogram_timedelta("render_time").record(timedelta(seconds=1))

    assert port is not None
    counts = {
        (name.removesuffix("_bucket"), dict(labels)["le"]): number
        for (name, labels), number in samples(core_text(port)).items()
        if name.endswith("_bucket")
    }
    assert counts == {
        ("page_bytes_By", "1000"): 0,
        ("page_bytes_By", "1000000"): 1,
        ("page_bytes_By", "+Inf"): 1,
        ("render_time_seconds", "0.5"): 0,
        ("render_time_seconds", "3"): 1,
        ("render_time_seconds", "+Inf"): 1,
    }


def test_runtime_without_metrics_opens_no_port() -> None:
    """Metrics that are turned off cost no endpoint."""
    settings = Settings(metrics=MetricsSettings(enabled=False))

    _runtime, port = build_runtime(settings, workload="orders")

    assert port is None


def test_runtime_without_heartbeat_is_built() -> None:
    """The worker's heartbeat to the server can be turned off."""
    settings = Settings(worker=WorkerSettings(heartbeat_interval=None))

    _runtime, port = build_runtime(settings, workload="orders")

    assert port is not None


def test_two_runtimes_get_different_ports() -> None:
    """Several workers on one machine never need a number from anybody."""
    kept: list[Any] = [build_runtime(Settings(), workload="orders") for _ in range(2)]

    assert kept[0][1] != kept[1][1]


def test_all_metrics_together_pass_promtool(metrics: Metrics) -> None:
    """Prometheus' own linter finds nothing wrong with names, types and help texts of ours."""
    promtool = shutil.which("promtool")
    if promtool is None:
        missing = "promtool is not installed: run `make ci-tools`, or install prometheus"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    metrics.activity_finished("charge", "completed", 0.5)
    metrics.loop_lag(0.1)
    metrics.watch_thread_pool(size=lambda: 1, in_use=lambda: 0, waiting=lambda: 0)
    metrics.watch_process_pool(
        size=lambda: 1, in_use=lambda: 0, waiting=lambda: 0, restarts=lambda: 0
    )
    runtime, port = build_runtime(Settings(), workload="orders")
    counter = runtime.metric_meter.create_counter("temporal_workflow_completed", "Completed.")
    counter.add(1, {"workflow_type": "Order", "task_queue": "orders", "namespace": "default"})
    settings = HealthSettings(bind_address="127.0.0.1", port=0)
    assert port is not None
    with HealthServer(
        settings, HealthState(), render_metrics=metrics.render, labels=metrics.labels
    ) as server:
        server.set_core_metrics_port(port)
        text = core_text(server.port)

    linted = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )

    assert 'fleet_workflow_outcomes_total{outcome="completed"' in text
    assert (linted.stdout, linted.stderr, linted.returncode) == ("", "", 0)
