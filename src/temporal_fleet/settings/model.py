"""Every setting of a worker: its type, unit, default and reason.

Building these classes reads nothing but their arguments: no environment, no files, no container
limits. That is the loader's work, so tests and child processes get exactly the settings they are
given.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from typing_extensions import override

from temporal_fleet.settings.codec import CodecSettings
from temporal_fleet.settings.connection import ConnectionSettings
from temporal_fleet.settings.observability import LogSettings, MetricsSettings, TracingSettings
from temporal_fleet.settings.rules import (
    ZERO,
    BrokenRule,
    Group,
    Name,
    PositiveDuration,
    raise_broken_rules,
    seconds,
)
from temporal_fleet.settings.server import TemporalSettings

Slots = Annotated[int, Field(ge=1, le=100_000)]
Pollers = Annotated[int, Field(ge=1, le=1000)]
Share = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class WorkerSettings(Group):
    """What the worker polls and how it shows itself to the server."""

    task_queue: Name | None = None
    """Task queue to poll; None = the one the workload declares. Set it to run a second copy of a
    workload on another task queue, such as one for large customers."""
    heartbeat_interval: (
        Annotated[timedelta, Field(ge=timedelta(seconds=1), le=timedelta(seconds=60))] | None
    ) = timedelta(seconds=30)
    """How often the worker reports its slots and pollers to the server (shown in the Temporal UI);
    0 = never, which is None in Python. The server accepts 1 to 60 seconds."""

    @model_validator(mode="before")
    @classmethod
    def _zero_is_off(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("heartbeat_interval") in (0, ZERO):
            return {**values, "heartbeat_interval": None}
        return values


def _versioning_default(values: dict[str, Any]) -> bool:
    return values.get("build_id") is not None


class DeploymentSettings(Group):
    """Which Worker Deployment and build ID this process belongs to."""

    name: Annotated[Name, Field(max_length=200)] | None = None
    """Name of the Worker Deployment; None = the workload's name. TEMPORAL_DEPLOYMENT_NAME, which
    the Temporal Worker Controller sets, is read when FLEET_DEPLOYMENT_NAME is not set."""
    build_id: Annotated[Name, Field(max_length=200)] | None = None
    """Identifies the code of this image to Temporal; None = not versioned.
    TEMPORAL_WORKER_BUILD_ID, which the Temporal Worker Controller sets, is read when
    FLEET_DEPLOYMENT_BUILD_ID is not set."""
    versioning: bool = Field(
        default_factory=_versioning_default,
        json_schema_extra={"default": "true when a build ID is set, else false"},
    )
    """Whether the server routes workflows by build ID. Off, the build ID is only shown."""
    default_versioning_behavior: Literal["pinned", "auto_upgrade"] | None = None
    """What happens to running workflows whose class does not say when a new build becomes current:
    they stay on their build, or move. None = every workflow class must declare it."""

    def name_for(self, workload: str) -> str:
        """Return the name of the Worker Deployment of the workload named *workload*."""
        return self.name or workload

    @override
    def broken_rules(self) -> Iterator[BrokenRule]:
        """Yield versioning settings that lack what they need."""
        if self.versioning and self.build_id is None:
            yield BrokenRule(
                "deployment.build_id",
                "is not set, but <deployment.versioning> is true",
                "Set it to the build ID of this image, or turn <deployment.versioning> off.",
            )


def _threads_default(values: dict[str, int]) -> int:
    return min(values.get("activities", 100), 100)


def _pollers_initial_default(values: dict[str, int]) -> int:
    return min(max(5, values.get("pollers_minimum", 1)), values.get("pollers_maximum", 100))


class ConcurrencySettings(Group):
    """How much this process does at once."""

    workflow_tasks: Slots = 100
    """Workflow tasks processed at once; the most the resource tuner may use."""
    activities: Slots = 100
    """Activities running at once; the most the resource tuner may use. No more than there are
    processes in a worker whose activities are all marked `@cpu_bound`."""
    local_activities: Slots = 100
    """Local activities running at once; the most the resource tuner may use."""
    nexus_tasks: Slots = 100
    """Nexus tasks running at once; the most the resource tuner may use."""
    sticky_cache_size: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Workflows kept in memory between their tasks; 0 = none, so every task replays the whole
    history."""
    activities_per_second: Rate | None = None
    """Most activities this worker starts per second; None = no limit."""
    task_queue_activities_per_second: Rate | None = None
    """Most activities the server hands out per second for the whole task queue, over all its
    workers; None = no limit. Protects what the activities call."""
    threads: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default_factory=_threads_default,
        json_schema_extra={"default": "FLEET_CONCURRENCY_ACTIVITIES, at most 100"},
    )
    """Threads for activities written as plain `def`. With fewer threads than activities, accepted
    activities wait for a thread while their timeouts run. 0 = none, for workloads without such activities."""
    processes: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1,
        json_schema_extra={
            "default": "CPU limit of the container, rounded (without one: CPUs of the machine, "
            "at most 4), at most one per 256 MiB of its memory limit; 1 when built in Python"
        },
    )
    """Processes for activities marked `@cpu_bound`. Each imports the workload anew, hence the
    memory."""
    tuner: Literal["fixed", "resource"] = "fixed"
    """How slots are given out: `fixed` numbers, or `resource` = as long as CPU and memory allow."""
    tuner_target_cpu: Share = 0.8
    """Share of the CPU limit up to which the resource tuner gives out slots (0 to 1)."""
    tuner_target_memory: Share = 0.8
    """Share of the memory limit up to which the resource tuner gives out slots (0 to 1)."""
    pollers: Literal["autoscaling", "fixed"] = "autoscaling"
    """Whether the number of open polls follows the load, or is fixed per kind of task."""
    pollers_minimum: Pollers = 1
    """Fewest polls kept open for each kind of task while autoscaling."""
    pollers_maximum: Pollers = 100
    """Most polls kept open for each kind of task while autoscaling."""
    pollers_initial: Pollers = Field(
        default_factory=_pollers_initial_default,
        json_schema_extra={"default": "5, within the minimum and maximum"},
    )
    """Polls opened for each kind of task at start while autoscaling."""
    pollers_workflow: Pollers = 5
    """Polls for workflow tasks when fixed; at least 2 while workflows are kept in the sticky
    cache."""
    pollers_activity: Pollers = 5
    """Polls for activity tasks when fixed."""
    pollers_nexus: Pollers = 5
    """Polls for Nexus tasks when fixed."""

    @override
    def broken_rules(self) -> Iterator[BrokenRule]:
        """Yield poller numbers that contradict each other."""
        if self.pollers_minimum > self.pollers_maximum:
            yield BrokenRule(
                "concurrency.pollers_minimum",
                f"{self.pollers_minimum} is more than <concurrency.pollers_maximum>, "
                f"which is {self.pollers_maximum}",
                "Lower it, or raise <concurrency.pollers_maximum>.",
            )
        elif not self.pollers_minimum <= self.pollers_initial <= self.pollers_maximum:
            yield BrokenRule(
                "concurrency.pollers_initial",
                f"{self.pollers_initial} is not between <concurrency.pollers_minimum>, which is "
                f"{self.pollers_minimum}, and <concurrency.pollers_maximum>, which is "
                f"{self.pollers_maximum}",
                f"Use {self.pollers_minimum} to {self.pollers_maximum}.",
            )
        # One poll is for the sticky cache and one for new workflows; the SDK refuses fewer.
        if self.pollers == "fixed" and self.sticky_cache_size > 0 and self.pollers_workflow < 2:
            yield BrokenRule(
                "concurrency.pollers_workflow",
                f"{self.pollers_workflow} is too few while <concurrency.sticky_cache_size> is "
                f"{self.sticky_cache_size}",
                "Use 2 or more, or set <concurrency.sticky_cache_size> to 0.",
            )


def _warning_default(values: dict[str, timedelta]) -> timedelta:
    return min(timedelta(seconds=5), values.get("timeout", timedelta.max) / 2)


def _force_timeout_default(values: dict[str, timedelta]) -> timedelta:
    return min(timedelta(seconds=2), values.get("margin", timedelta.max) / 2)


class DrainSettings(Group):
    """What happens between SIGTERM and the end of the process.

    The grace period of the pod must be at least `timeout` + `margin`, or Kubernetes kills the
    process first.
    """

    timeout: Annotated[timedelta, Field(ge=ZERO)] = timedelta(seconds=30)
    """How long running activities may continue after SIGTERM; those still running then are cancelled.
    0 = cancel at once."""
    margin: PositiveDuration = timedelta(seconds=10)
    """How long the end may take after `timeout`: cancelled activities, closing of resources,
    flushing of traces. Then the process ends itself with exit code 4 and prints what hung."""
    warning: Annotated[timedelta, Field(ge=ZERO)] = Field(
        default_factory=_warning_default,
        json_schema_extra={"default": "5, at most half of the drain timeout"},
    )
    """How long before the end of `timeout` activities still running are named in the log; 0 = no
    warning."""
    force_timeout: PositiveDuration = Field(
        default_factory=_force_timeout_default,
        json_schema_extra={"default": "2, at most half of the drain margin"},
    )
    """How long cancelled activities may take to end, after `timeout` or after a second signal."""

    @override
    def broken_rules(self) -> Iterator[BrokenRule]:
        """Yield phases of the drain that do not fit into each other."""
        if self.warning and self.timeout and self.warning >= self.timeout:
            yield BrokenRule(
                "drain.warning",
                f"{seconds(self.warning)} is not less than <drain.timeout>, "
                f"which is {seconds(self.timeout)}",
                "Lower it, raise <drain.timeout>, or use 0 for no warning.",
            )
        if self.force_timeout >= self.margin:
            yield BrokenRule(
                "drain.force_timeout",
                f"{seconds(self.force_timeout)} is not less than <drain.margin>, "
                f"which is {seconds(self.margin)}",
                "Lower it, or raise <drain.margin>.",
            )


class HealthSettings(Group):
    """The port of `/startupz`, `/livez`, `/readyz` and `/metrics`."""

    bind_address: Annotated[str, Field(min_length=1)] = "0.0.0.0"  # noqa: S104
    """Address to listen on. All interfaces, since the kubelet and Prometheus come from outside
    the pod."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port to listen on; 0 = any free one, which the log then names."""
    liveness_timeout: PositiveDuration = timedelta(seconds=30)
    """Oldest heartbeat of the event loop with which the worker still counts as alive. Long, since a
    restart loses more than a slow loop does."""


class EventLoopSettings(Group):
    """How the event loop is watched; one blocked loop stops every async activity of the process."""

    blocked_threshold: PositiveDuration = timedelta(seconds=1)
    """Delay from which the stack of what blocks the loop is logged. `fleet dev` uses 0.1."""
    heartbeat_interval: PositiveDuration = timedelta(seconds=0.25)
    """How often the loop shows that it is alive; also the resolution of the lag metric."""
    warning_interval: Annotated[timedelta, Field(ge=ZERO)] = timedelta(seconds=30)
    """Shortest time between two warnings about a blocked loop; 0 = warn every time."""


class Settings(BaseSettings):
    """All settings of a worker; `load_settings` fills them from the environment and files."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="FLEET_")

    temporal: TemporalSettings = TemporalSettings()
    """Server, namespace and credentials."""
    connection: ConnectionSettings = ConnectionSettings()
    """Connecting and staying connected."""
    codec: CodecSettings = CodecSettings()
    """Encryption of payloads."""
    worker: WorkerSettings = WorkerSettings()
    """What is polled."""
    deployment: DeploymentSettings = DeploymentSettings()
    """Worker Deployment and build ID."""
    concurrency: ConcurrencySettings = ConcurrencySettings()
    """Slots, pollers, threads and processes."""
    drain: DrainSettings = DrainSettings()
    """From SIGTERM to the end."""
    health: HealthSettings = HealthSettings()
    """Probes and metrics port."""
    event_loop: EventLoopSettings = EventLoopSettings()
    """Watching the event loop."""
    log: LogSettings = LogSettings()
    """Logs."""
    metrics: MetricsSettings = MetricsSettings()
    """Metrics."""
    tracing: TracingSettings = TracingSettings()
    """Traces."""

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments only: the loader reads everything else, with provenance and all errors."""
        return (init_settings,)

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        limit, interval = self.health.liveness_timeout, self.event_loop.heartbeat_interval
        if interval * 2 > limit:
            rule = BrokenRule(
                "health.liveness_timeout",
                f"{seconds(limit)} is less than two intervals of "
                f"<event_loop.heartbeat_interval>, which is {seconds(interval)}",
                "Raise it, or lower <event_loop.heartbeat_interval>.",
            )
            raise_broken_rules([rule])
        return self
