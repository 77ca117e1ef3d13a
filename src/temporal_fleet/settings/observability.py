"""What a worker tells about itself: logs, metrics and traces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError
from typing_extensions import override

from temporal_fleet.settings.rules import BrokenRule, Group

Bound = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Buckets = Annotated[tuple[Bound, ...], Field(min_length=1)]

SCHEDULE_TO_START_HISTOGRAMS = (
    "workflow_task_schedule_to_start_latency",
    "activity_schedule_to_start_latency",
    "nexus_task_schedule_to_start_latency",
)
"""Histograms of the SDK that have the buckets of the waiting times."""
# Not the end-to-end latency of workflows: it takes up to months, for which the SDK's own buckets are made.
LATENCY_HISTOGRAMS = (
    "request_latency",
    "long_request_latency",
    "workflow_task_execution_latency",
    "workflow_task_replay_latency",
    "activity_execution_latency",
    "activity_succeed_endtoend_latency",
    "local_activity_execution_latency",
    "local_activity_succeed_endtoend_latency",
    "nexus_task_execution_latency",
    "nexus_task_endtoend_latency",
)
"""Histograms of the SDK that have the latency buckets."""


class LogSettings(Group):
    """What is logged and how."""

    format: Literal["auto", "json", "console"] = "auto"
    """`json` = one object per line, `console` = coloured text, `auto` = console in a terminal,
    else json."""
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    """Least important level that is logged by Python code."""
    core_level: Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR"] = "WARN"
    """Least important level that is logged by the SDK's Rust core."""


def _histograms(text: str) -> dict[str, tuple[float, ...]]:
    pairs = [part.partition("=") for part in text.split()]
    return {
        name: tuple(float(bound) for bound in bounds.split(","))
        for name, _, bounds in pairs
        if name
    }


def _check_histograms(text: str) -> str:
    try:
        bounds = _histograms(text)
        good = len(bounds) == len(text.split()) and all(
            bound > 0 and math.isfinite(bound) for each in bounds.values() for bound in each
        )
    except ValueError:
        good = False
    if not good:
        cure = "Write each name once with its upper bounds, such as page_bytes=1000,100000 score=0.5,0.9."
        raise PydanticCustomError(
            "histograms", "is not a list of histograms with bounds", {"cure": cure}
        )
    return text


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
    histogram_buckets: Annotated[str, AfterValidator(_check_histograms)] | None = Field(
        default=None, json_schema_extra={"empty": "none"}
    )
    """Upper bounds of histograms that workflows and activities record with `metric_meter()`, such as
    `page_bytes=1000,100000 score=0.5,0.9`; None = the SDK's for all of them. Durations are in seconds. A name
    stands for every histogram whose name contains it."""

    @property
    def own_histograms(self) -> dict[str, tuple[float, ...]]:
        """Upper bounds of the workload's own histograms, by name; empty when none are set."""
        return _histograms(self.histogram_buckets or "")

    @override
    def broken_rules(self) -> Iterator[BrokenRule]:
        """Yield bucket bounds that do not increase, and names of histograms that stand for another's, too."""
        all_bounds = {
            "schedule_to_start_buckets": [self.schedule_to_start_buckets],
            "latency_buckets": [self.latency_buckets],
            "histogram_buckets": self.own_histograms.values(),
        }
        for name, several in all_bounds.items():
            for bounds in several:
                if list(bounds) != sorted(set(bounds)):
                    listed = ",".join(str(bound).removesuffix(".0") for bound in bounds)
                    yield BrokenRule(
                        f"metrics.{name}",
                        f"{listed} is not increasing",
                        "List every upper bound once, smallest first.",
                    )
        yield from self._ambiguous_names()

    def _ambiguous_names(self) -> Iterator[BrokenRule]:
        # The SDK takes an entry whose name the histogram's contains; which one of several, it does not say.
        own = list(self.own_histograms)
        sdk = (*SCHEDULE_TO_START_HISTOGRAMS, *LATENCY_HISTOGRAMS)
        for position, name in enumerate(own):
            for others, cure in (
                (sdk, "Rename the histogram; that one is the SDK's."),
                (own[:position], "List only the shorter name, or rename one of the histograms."),
            ):
                if other := next((each for each in others if name in each or each in name), None):
                    yield BrokenRule(
                        "metrics.histogram_buckets",
                        f"{name} cannot be told apart from {other}, as one name contains the other",
                        cure,
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
