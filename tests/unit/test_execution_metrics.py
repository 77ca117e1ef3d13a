"""What CPU-bound functions measure reaches the metrics of their worker."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import cpu_metrics_sample
import pytest
from prometheus_client.parser import text_string_to_metric_families
from temporalio.exceptions import ApplicationError
from temporalio.runtime import MetricBuffer, MetricBufferDurationFormat, Runtime, TelemetryConfig
from temporalio.testing import ActivityEnvironment

from temporal_fleet.execution import running_process_pool
from temporal_fleet.settings import Settings
from temporal_fleet.telemetry.metrics import Metrics

SAMPLE = ["cpu_metrics_sample"]


@pytest.fixture
def buffer() -> MetricBuffer:
    """What the SDK's runtime has measured."""
    return MetricBuffer(10_000, MetricBufferDurationFormat.SECONDS)


@pytest.fixture
def environment(buffer: MetricBuffer) -> ActivityEnvironment:
    """An activity whose metric meter belongs to a real runtime."""
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, start_to_close_timeout=None)
    environment.metric_meter = Runtime(telemetry=TelemetryConfig(metrics=buffer)).metric_meter
    return environment


def own(buffer: MetricBuffer) -> list[tuple[str, float, dict[str, Any]]]:
    """Return name, value and own attributes of the updates."""
    return [
        (
            update.metric.name,
            update.value,
            {name: value for name, value in update.attributes.items() if name in ("own", "kind")},
        )
        for update in buffer.retrieve_updates()
    ]


async def test_every_instrument_of_the_metric_meter_reaches_the_worker(
    environment: ActivityEnvironment, buffer: MetricBuffer
) -> None:
    """Counters, histograms and gauges of activity.metric_meter() arrive with their values and attributes."""
    async with running_process_pool(1, SAMPLE):
        await environment.run(cpu_metrics_sample.measure)

    assert sorted(own(buffer), key=str) == [
        ("bytes", 7, {"own": True}),
        ("left", 9, {"own": True}),
        ("pages", 2, {"own": True, "kind": "a"}),
        ("pages", 3, {"own": True, "kind": "b"}),
        ("score", 0.5, {"own": True}),
        ("share", 0.25, {"own": True}),
        ("time", 2.0, {"own": True}),
    ]


async def test_counter_of_a_tight_loop_costs_the_worker_little(
    environment: ActivityEnvironment, buffer: MetricBuffer
) -> None:
    """Increments are added up before they cross: the sum is exact, and the worker hears of few."""
    async with running_process_pool(1, SAMPLE):
        await environment.run(cpu_metrics_sample.measure_often, 20_000)
    values = [value for name, value, _ in own(buffer) if name == "rounds"]

    assert sum(values) == 20_000
    assert len(values) < 1000


async def test_metric_meter_is_heard_while_the_function_runs(
    environment: ActivityEnvironment, buffer: MetricBuffer
) -> None:
    """A long computation's counters move before it ends."""
    async with running_process_pool(1, SAMPLE), asyncio.timeout(60):
        call = asyncio.create_task(environment.run(cpu_metrics_sample.measure_forever))
        while not own(buffer):
            await asyncio.sleep(0.05)
        assert not call.done()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)


async def test_wrong_value_is_told_to_the_function(environment: ActivityEnvironment) -> None:
    """A negative number raises the SDK's ValueError where it is given."""
    async with running_process_pool(1, SAMPLE):
        told = await environment.run(cpu_metrics_sample.measure_wrongly)

    assert "non-negative" in told


async def test_value_that_a_metric_cannot_take_fails_its_attempt(
    environment: ActivityEnvironment,
) -> None:
    """The error names the metric, and the next call works."""
    async with running_process_pool(1, SAMPLE):
        with pytest.raises(ApplicationError, match="for the metric 'rounds'") as caught:
            await environment.run(cpu_metrics_sample.measure_strangely, 2**70)
        await environment.run(cpu_metrics_sample.measure)

    assert caught.value.type == "CallNotPossible"


async def test_counts_of_all_processes_are_added_to_those_of_the_worker() -> None:
    """Counters and histograms of prometheus_client are summed, also of failed calls; gauges are not."""
    metrics = Metrics(Settings(), workload="sample")
    before = read(metrics)
    cpu_metrics_sample.PAGES.labels("written").inc()
    cpu_metrics_sample.SIZES.observe(50)
    async with running_process_pool(2, SAMPLE, on_counted=metrics.pool_counts.add):
        count = cpu_metrics_sample.count_pages
        await asyncio.gather(count(10), count(20))
        with pytest.raises(ValueError, match="after counting"):
            await count(100, True)
    after = read(metrics)
    grown = {
        key: after[key] - before.get(key, 0) for key in after if key[0].startswith("cpu_sample")
    }

    assert grown == {
        ("cpu_sample_pages_total", "written"): 1,
        ("cpu_sample_pages_total", "read"): 130,
        ("cpu_sample_sizes_bucket", "1.0"): 0,
        ("cpu_sample_sizes_bucket", "10.0"): 3,
        ("cpu_sample_sizes_bucket", "+Inf"): 4,
        ("cpu_sample_sizes_count", ""): 4,
        ("cpu_sample_sizes_sum", ""): 65,
        ("cpu_sample_level", ""): 0,
    }


async def test_metrics_that_only_the_pool_knows_are_exposed_whole() -> None:
    """A labelled counter without a sample in the worker appears with what the processes have counted."""
    metrics = Metrics(Settings(), workload="sample")
    metrics.pool_counts.add([("only", "Only there.", "counter", "only_total", (("a", "b"),), 2.0)])
    metrics.pool_counts.add([("only", "Only there.", "counter", "only_total", (("a", "b"),), 3.0)])

    assert read(metrics)["only_total", "b"] == 5


def read(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Return the samples of the rendered metrics by name and label values."""
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }
