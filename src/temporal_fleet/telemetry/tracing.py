"""Traces over OTLP/HTTP, when an endpoint is set; without one no OpenTelemetry code is imported.

Spans are those of the SDK's own interceptor, from the client that starts a workflow to its
activities. A workflow started by a client that does not trace has no span of its own; its
activities have.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from temporal_fleet.errors import Problem, SettingsError
from temporal_fleet.settings.otel import NOT_USED, TRACES_ENDPOINT
from temporal_fleet.telemetry.logs import UNVERSIONED, set_trace_source

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from temporalio.contrib.opentelemetry import TracingInterceptor

    from temporal_fleet.settings import Settings, TracingSettings

_USE_HTTP = "Set FLEET_TRACING_OTLP_ENDPOINT to the collector's OTLP/HTTP port, such as http://collector:4318."

log = structlog.get_logger(__name__)


class Tracing:
    """The tracing of this process, or its absence.

    Attributes:
        interceptors: For ``Client.connect``, which hands them on to workers; empty when tracing is
            off.
    """

    def __init__(
        self,
        provider: TracerProvider | None = None,
        interceptors: Sequence[TracingInterceptor] = (),
    ) -> None:
        self._provider = provider
        self.interceptors = tuple(interceptors)

    def flush(self, timeout: timedelta) -> bool:
        """Send the spans that have not been sent yet; blocks, so call it off the event loop.

        Args:
            timeout: How long to wait for the collector.

        Returns:
            Whether all were sent, or tracing is off. A timeout is logged, never raised.
        """
        if self._provider is None:
            return True
        # The provider's own timeout is not kept while a collector is slow, hence a thread to leave
        # behind.
        sent: list[bool] = []
        thread = threading.Thread(
            target=lambda provider=self._provider: sent.append(provider.force_flush()),
            name="trace-flush",
            daemon=True,
        )
        thread.start()
        thread.join(timeout.total_seconds())
        if not sent:
            log.warning(
                "traces were not flushed in time, the last spans are lost",
                trace_flush_timeout_seconds=timeout.total_seconds(),
            )
        return sent == [True]


def start_tracing(
    settings: Settings,
    *,
    workload: str,
    identity: str,
    source: str = "FLEET_TRACING_OTLP_ENDPOINT",
) -> Tracing:
    """Start tracing when ``tracing.otlp_endpoint`` is set; log lines then carry ``trace_id``.

    Sets OpenTelemetry's global tracer provider, so that workloads and the libraries they use can
    add spans.

    Args:
        settings: Endpoint, headers, sampling, service name and build ID.
        workload: Name of the workload, which is the service's name when none is set.
        identity: Identity of this worker in Temporal, the service instance of the spans.
        source: Where the endpoint was found, as the provenance of loaded settings says.

    Raises:
        SettingsError: The endpoint is set for this worker, but OpenTelemetry is not installed. One that
            OpenTelemetry's own variables name, as a cluster may for every pod, is only warned about.
    """
    endpoint = settings.tracing.otlp_endpoint
    if endpoint is None:
        if source.startswith(NOT_USED):
            log.warning("no traces are sent", reason=source.removeprefix(NOT_USED), cure=_USE_HTTP)
        return Tracing()
    try:
        from opentelemetry import trace
        from temporalio.contrib.opentelemetry import TracingInterceptor

        url = _traces_url(endpoint, as_it_is=source == TRACES_ENDPOINT)
        provider = _provider(settings, url, workload=workload, identity=identity)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        problem = _not_installed(source, endpoint)
        if source.startswith("OTEL_"):
            log.warning(
                "no traces are sent", reason=f"{source} {problem.message}", cure=problem.cure
            )
            return Tracing()
        raise SettingsError([problem]) from error
    trace.set_tracer_provider(provider)

    def current_ids() -> Mapping[str, str]:
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return {}
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}

    set_trace_source(current_ids)
    return Tracing(provider, [TracingInterceptor(provider.get_tracer("temporal_fleet"))])


def _traces_url(endpoint: str, *, as_it_is: bool) -> str:
    base = endpoint.rstrip("/")
    return endpoint if as_it_is or base.endswith("/v1/traces") else f"{base}/v1/traces"


def _provider(settings: Settings, url: str, *, workload: str, identity: str) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    attributes: dict[str, Any] = {
        "service.name": settings.tracing.service_name or workload,
        "service.version": settings.deployment.build_id or UNVERSIONED,
        "service.instance.id": identity,
        "temporal.deployment.name": settings.deployment.name_for(workload),
    }
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.tracing.sample_ratio)),
        resource=Resource.create(attributes),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=url, headers=_headers(settings.tracing))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _headers(settings: TracingSettings) -> dict[str, str]:
    if settings.otlp_headers is None:
        return {}
    from opentelemetry.util.re import parse_env_headers

    return dict(parse_env_headers(settings.otlp_headers.get_secret_value(), liberal=True))


def _not_installed(source: str, endpoint: str) -> Problem:
    return Problem(
        source,
        f"is {endpoint}, but OpenTelemetry is not installed",
        cure="Run `pip install temporal-fleet[otel]`, or set FLEET_TRACING_OTLP_ENDPOINT to nothing "
        "to run without traces.",
    )
