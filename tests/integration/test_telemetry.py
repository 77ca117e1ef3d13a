"""Logs, metrics and traces of a worker that really runs a workflow."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families
from typing_extensions import override

from temporal_fleet.telemetry.metrics.families import DERIVED_FAMILIES
from temporal_fleet.testing import dev_server

pytestmark = pytest.mark.integration

WORKER = Path(__file__).parents[1] / "support" / "telemetry_worker.py"


class Collector(http.server.ThreadingHTTPServer):
    """An OTLP/HTTP collector that keeps what it gets, or hangs."""

    daemon_threads = True

    def __init__(self, *, hangs: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _CollectorHandler)
        self.hangs = hangs
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.released = threading.Event()

    @property
    def spans(self) -> list[Span]:
        """All spans received."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def resource(self) -> dict[str, str]:
        """The resource of the first request."""
        attributes = self.requests[0].resource_spans[0].resource.attributes
        return {a.key: a.value.string_value for a in attributes}


class _CollectorHandler(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        if self.server.hangs:
            self.server.released.wait()
            return
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.server.headers.append(dict(self.headers))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.end_headers()
        self.wfile.write(ExportTraceServiceResponse().SerializeToString())

    @override
    def log_message(self, *_: object) -> None:
        return


@dataclass
class Run:
    """What one worker left behind."""

    lines: list[dict[str, Any]]
    metrics: str

    def about(self, event: str) -> list[dict[str, Any]]:
        """Return the lines with this event."""
        return [line for line in self.lines if line["event"] == event]


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on a free port."""
    yield from _serving(Collector())


@pytest.fixture
def hanging_collector() -> Iterator[Collector]:
    """A collector that takes requests and never answers."""
    yield from _serving(Collector(hangs=True))


def _serving(collector: Collector) -> Iterator[Collector]:
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    yield collector
    collector.released.set()
    collector.shutdown()
    thread.join()
    collector.server_close()


@pytest_asyncio.fixture
async def address() -> AsyncIterator[str]:
    """The address of a Temporal dev server."""
    async with dev_server() as environment:
        yield environment.client.service_client.config.target_host


async def run_worker(address: str, **environ: str) -> Run:
    """Run the worker of these tests to its end."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FLEET_", "OTEL_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(WORKER),
        env=inherited
        | {
            "TEMPORAL_ADDRESS": address,
            "FLEET_HEALTH_PORT": "0",
            "FLEET_DEPLOYMENT_BUILD_ID": "b1",
            "FLEET_LOG_FORMAT": "json",
            "TEST_FLUSH_SECONDS": "10",
            **environ,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 50)
    assert process.returncode == 0, err.decode()
    return Run([json.loads(line) for line in err.splitlines()], out.decode())


async def test_replayed_workflow_logs_each_line_once_with_its_context(address: str) -> None:
    """With a cache of nothing every task replays the workflow, and still no line is doubled."""
    run = await run_worker(address)

    events = Counter(line["event"] for line in run.lines)
    assert events["delivery began"] == events["delivery refused"] == 1
    assert [line["parcel"] for line in run.about("parcel delivered")] == [0, 1, 2]
    (began,) = run.about("delivery began")
    assert (
        began.items()
        >= {
            "level": "info",
            "logger": "temporalio.workflow",
            "workload": "parcels",
            "deployment": "parcels",
            "build_id": "b1",
            "workflow_id": "delivery-1",
            "workflow_type": "Delivery",
            "task_queue": "parcels",
            "attempt": 1,
        }.items()
    )
    (shipped,) = run.about("parcel 0 shipped")
    assert shipped["workflow_run_id"] == began["workflow_run_id"]
    assert (shipped["activity_type"], shipped["activity_id"]) == ("ship", "1")
    refused = run.about("delivery refused")[0]
    assert refused["exception"].rstrip().endswith("ActivityError: Activity task failed")


async def test_other_loggers_of_a_workflow_do_not_repeat_their_lines_and_carry_its_ids(
    address: str,
) -> None:
    """In a workflow, logging and structlog give the same line once, with the IDs of the workflow."""
    run = await run_worker(address)

    (began,) = run.about("delivery began")
    for line in [*run.about("said by logging"), *run.about("said by structlog")]:
        assert line["logger"] == "parcels"
        assert (line["attempt"], line["extra_attempt"]) == (1, "mine")
        for name in ("workflow_id", "workflow_run_id", "workflow_type", "task_queue"):
            assert line[name] == began[name]
    assert len(run.about("said by logging")) == len(run.about("said by structlog")) == 1


async def test_core_logs_are_lines_of_ours(address: str) -> None:
    """What the SDK's Rust core logs has the same form, with its fields apart."""
    run = await run_worker(address, FLEET_LOG_CORE_LEVEL="DEBUG", FLEET_LOG_LEVEL="DEBUG")

    core = [line for line in run.lines if line["logger"] == "temporalio.core"]

    assert core
    assert all(line["core"]["target"].startswith("temporal") for line in core)
    assert all(line["build_id"] == "b1" for line in core)
    assert not any("sdk_core::" in line["event"] for line in core)


async def test_every_sample_carries_deployment_and_build_id(address: str) -> None:
    """One response holds the core's metrics and ours, all labelled, no family twice."""
    run = await run_worker(address)

    families = list(text_string_to_metric_families(run.metrics))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    unlabelled = [
        sample.name
        for family in families
        for sample in family.samples
        if (sample.labels.get("deployment"), sample.labels.get("build_id")) != ("parcels", "b1")
    ]
    assert unlabelled == []
    for declared in DERIVED_FAMILIES:
        assert f"# HELP {declared.name} {declared.help}\n" in run.metrics
    outcomes = next(f for f in families if f.name == "fleet_workflow_outcomes")
    (outcome,) = outcomes.samples
    assert outcome.value == 1
    assert (
        outcome.labels.items()
        >= {
            "workflow_type": "Delivery",
            "outcome": "completed",
            "task_queue": "parcels",
            "namespace": "default",
        }.items()
    )
    assert "temporal_activity_schedule_to_start_latency_seconds" in names
    assert "process_cpu_seconds" in names


async def test_spans_reach_the_collector_and_log_lines_name_their_trace(
    address: str, collector: Collector
) -> None:
    """One trace spans client, workflow and activities, and the log lines of all of them."""
    run = await run_worker(
        address,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}",
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20token",
    )

    names = Counter(span.name for span in collector.spans)
    assert names["RunActivity:ship"] == 3
    assert {"StartWorkflow:Delivery", "RunWorkflow:Delivery", "StartActivity:refuse"} <= set(names)
    traces = {span.trace_id.hex() for span in collector.spans}
    assert len(traces) == 1
    logged = [*run.about("delivery began"), *run.about("parcel 2 shipped")]
    assert {line["trace_id"] for line in logged} == traces
    assert all(len(line["span_id"]) == 16 for line in logged)
    assert (
        collector.resource.items()
        >= {
            "service.name": "parcels",
            "service.version": "b1",
            "service.instance.id": "pod-1",
        }.items()
    )
    assert collector.headers[0]["authorization"] == "Bearer token"


async def test_flush_to_hanging_collector_gives_up_and_says_so(
    address: str, hanging_collector: Collector
) -> None:
    """A collector that does not answer delays the end by the flush timeout, and is logged."""
    run = await run_worker(
        address,
        FLEET_TRACING_OTLP_ENDPOINT=f"http://127.0.0.1:{hanging_collector.server_port}",
        TEST_FLUSH_SECONDS="0.5",
    )

    (line,) = run.about("traces were not flushed in time, the last spans are lost")
    assert line["trace_flush_timeout_seconds"] == 0.5


async def test_sample_ratio_zero_sends_nothing(address: str, collector: Collector) -> None:
    """Traces that are not sampled cost the collector nothing."""
    await run_worker(
        address,
        FLEET_TRACING_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}",
        FLEET_TRACING_SAMPLE_RATIO="0",
    )

    assert collector.spans == []
