"""What a worker tells about itself: logs, metrics and traces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError
from typing_extensions import override

from temporal_fleet.settings.rules import BrokenRule, Group

Bound = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Buckets = Annotated[tuple[Bound, ...], Field(min_length=1)]


class LogSettings(Group):
    """What is logged and how."""

    format: Literal["auto", "json", "console"] = "auto"
    """`json` = one object per line, `console` = coloured text, `auto` = console in a terminal,
    else json."""
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    """Least important level that is logged by Python code."""
    core_level: Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR"] = "WARN"
    """Least important level that is logged by the SDK's Rust core."""


class MetricsSettings(Group):
    """What `/metrics` shows."""

    enabled: bool = True
    """Whether metrics are collected and served; off, `/metrics` answers 404."""
    schedule_to_start_buckets: Buckets = (
        0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
    )  # fmt: skip
    """Upper bounds in seconds of the histograms of waiting time in a task queue. The SDK's own
    jump from 10 to 100, too coarse for an alert; a backlog is measured in minutes, hence the
    long tail."""
    latency_buckets: Buckets = (
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
    )  # fmt: skip
    """Upper bounds in seconds of the other histograms of the SDK: activities, workflow tasks, requests."""

    @override
    def broken_rules(self) -> Iterator[BrokenRule]:
        """Yield bucket bounds that do not increase."""
        for name in ("schedule_to_start_buckets", "latency_buckets"):
            bounds = getattr(self, name)
            if list(bounds) != sorted(set(bounds)):
                listed = ",".join(str(bound).removesuffix(".0") for bound in bounds)
                yield BrokenRule(
                    f"metrics.{name}",
                    f"{listed} is not increasing",
                    "List every upper bound once, smallest first.",
                )


def _check_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise PydanticCustomError(
            "url",
            "is not a URL of a collector",
            {"cure": "Use http:// or https:// with host and port, such as http://collector:4318."},
        )
    return url


class TracingSettings(Group):
    """Where traces go; needs the extra `otel`."""

    otlp_endpoint: Annotated[str, AfterValidator(_check_url)] | None = Field(
        default=None, json_schema_extra={"empty": "none"}
    )
    """Base URL of the OTLP/HTTP collector, such as `http://collector:4318`; None = no tracing.
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, whose URL is used as it is, and then OTEL_EXPORTER_OTLP_ENDPOINT are
    read when this is not set, unless OTEL_TRACES_EXPORTER, OTEL_SDK_DISABLED or a protocol of gRPC excludes
    it; set to nothing, tracing is off."""
    otlp_headers: SecretStr | None = Field(default=None, repr=False)
    """Headers for the collector as `name=value,name=value`; None = none.
    OTEL_EXPORTER_OTLP_TRACES_HEADERS and then OTEL_EXPORTER_OTLP_HEADERS are read when this is not set."""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of new traces that is recorded (0 to 1); a trace begun elsewhere keeps its decision.
    OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG are read when this is not set."""
    service_name: Annotated[str, Field(min_length=1)] | None = None
    """Service that the spans belong to; None = the workload's name. OTEL_SERVICE_NAME is read when
    this is not set."""
