from __future__ import annotations

import os
import pickle
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from temporal_fleet.settings import (
    ConcurrencySettings,
    ConnectionSettings,
    DeploymentSettings,
    DrainSettings,
    Settings,
    WorkerSettings,
    load_settings,
)
from temporal_fleet.settings.reference import reference_markdown, rows

NOWHERE = Path("/nonexistent")
"""A root without control groups, so that no test depends on the machine's limits."""


def value_at(settings: BaseModel, path: str) -> object:
    """Return the value of a setting given by its path."""
    value: object = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def test_settings_built_in_python_read_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Settings()` is the defaults, whatever the environment says."""
    monkeypatch.setenv("FLEET_HEALTH_PORT", "1")
    monkeypatch.setenv("HEALTH", '{"port": 2}')

    assert Settings().health.port == 8080


def test_settings_with_one_group_replaced_keep_the_other_defaults() -> None:
    """A test overrides what it needs, and nothing else changes."""
    settings = Settings(drain=DrainSettings(timeout=timedelta(seconds=5)))

    assert settings.drain.timeout == timedelta(seconds=5)
    assert settings.drain.warning == timedelta(seconds=2.5)
    assert settings.health == Settings().health


def test_settings_pickled_come_back_equal() -> None:
    """Settings travel to child processes."""
    settings = load_settings({"TEMPORAL_API_KEY": "s3cret", "FLEET_DRAIN_TIMEOUT_SECONDS": "7"})

    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize("name", ["health", "drain"])
def test_settings_assigned_to_fail(name: str) -> None:
    """Settings cannot be changed after they were loaded."""
    settings = Settings()

    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, name, None)


def test_settings_with_an_unknown_field_fail() -> None:
    """A misspelt field is an error in Python, too."""
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        DrainSettings(timout=timedelta(seconds=1))  # type: ignore[call-arg]


def test_settings_printed_do_not_show_secrets() -> None:
    """A log line with all settings gives no secret away."""
    settings = load_settings(
        {"TEMPORAL_API_KEY": "s3cret", "TEMPORAL_GRPC_META_AUTHORIZATION": "s3cret"}
    ).settings

    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings.temporal)


ADAPTIVE_DEFAULTS = [
    (ConnectionSettings(deadline=timedelta(seconds=3)).attempt_timeout, timedelta(seconds=3)),
    (DrainSettings(margin=timedelta(seconds=1)).force_timeout, timedelta(seconds=0.5)),
    (DrainSettings(timeout=timedelta(0)).warning, timedelta(0)),
    (ConcurrencySettings(activities=10).threads, 10),
    (ConcurrencySettings(activities=5000).threads, 100),
    (ConcurrencySettings(pollers_maximum=2).pollers_initial, 2),
    (ConcurrencySettings(pollers_minimum=20).pollers_initial, 20),
    (DeploymentSettings(build_id="1.0-abc").versioning, True),
    (DeploymentSettings().versioning, False),
    (WorkerSettings(heartbeat_interval=timedelta(0)).heartbeat_interval, None),
]


@pytest.mark.parametrize(("value", "expected"), ADAPTIVE_DEFAULTS)
def test_default_that_depends_on_another_setting_follows_it(
    value: object, expected: object
) -> None:
    """Changing one setting never makes the default of another wrong."""
    assert value == expected


VALUES = [
    ("FLEET_DRAIN_TIMEOUT_SECONDS", "0.5", "drain.timeout", timedelta(seconds=0.5)),
    ("FLEET_DRAIN_TIMEOUT_SECONDS", " 90 ", "drain.timeout", timedelta(seconds=90)),
    ("FLEET_HEALTH_PORT", "0", "health.port", 0),
    ("FLEET_LOG_LEVEL", "debug", "log.level", "DEBUG"),
    ("FLEET_METRICS_ENABLED", "false", "metrics.enabled", False),
    ("FLEET_METRICS_LATENCY_BUCKETS", "0.1, 1,10", "metrics.latency_buckets", (0.1, 1.0, 10.0)),
    ("FLEET_METRICS_LATENCY_BUCKETS", "[0.1, 1]", "metrics.latency_buckets", (0.1, 1.0)),
    ("FLEET_WORKER_HEARTBEAT_INTERVAL_SECONDS", "0", "worker.heartbeat_interval", None),
    ("FLEET_CONCURRENCY_ACTIVITIES_PER_SECOND", "2.5", "concurrency.activities_per_second", 2.5),
    ("FLEET_CONCURRENCY_PROCESSES", "7", "concurrency.processes", 7),
    ("FLEET_HEALTH_PORT", "", "health.port", 8080),
    ("TEMPORAL_DEPLOYMENT_NAME", "shop/orders", "deployment.name", "shop/orders"),
    ("TEMPORAL_WORKER_BUILD_ID", "1.0-abc", "deployment.build_id", "1.0-abc"),
    ("OTEL_SERVICE_NAME", "orders", "tracing.service_name", "orders"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318", "tracing.otlp_endpoint", "http://c:4318"),
    ("OTEL_TRACES_SAMPLER_ARG", "0.25", "tracing.sample_ratio", 0.25),
]


@pytest.mark.parametrize(("name", "text", "path", "value"), VALUES)
def test_load_settings_with_a_variable_sets_the_field(
    name: str, text: str, path: str, value: object
) -> None:
    """A variable is read into the type of its field."""
    assert value_at(load_settings({name: text}, root=NOWHERE).settings, path) == value


PRECEDENCE = [
    ({"FLEET_DEPLOYMENT_NAME": "ours", "TEMPORAL_DEPLOYMENT_NAME": "theirs"}, "deployment.name"),
    (
        {"FLEET_DEPLOYMENT_BUILD_ID": "ours", "TEMPORAL_WORKER_BUILD_ID": "theirs"},
        "deployment.build_id",
    ),
    ({"FLEET_TRACING_SERVICE_NAME": "ours", "OTEL_SERVICE_NAME": "theirs"}, "tracing.service_name"),
]


@pytest.mark.parametrize(("environ", "path"), PRECEDENCE)
def test_load_settings_with_a_standard_variable_too_prefers_ours(
    environ: dict[str, str], path: str
) -> None:
    """Standard variables only fill what ours leave open."""
    assert value_at(load_settings(environ).settings, path) == "ours"


def test_load_settings_with_an_empty_endpoint_turns_tracing_off() -> None:
    """One worker can leave tracing that is on for the whole cluster."""
    loaded = load_settings(
        {"FLEET_TRACING_OTLP_ENDPOINT": "", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}
    )

    assert loaded.settings.tracing.otlp_endpoint is None
    assert loaded.provenance["tracing.otlp_endpoint"] == "FLEET_TRACING_OTLP_ENDPOINT"


def test_load_settings_with_another_sampler_ignores_its_argument() -> None:
    """The argument of a sampler that is no ratio is not taken for one."""
    environ = {"OTEL_TRACES_SAMPLER": "jaeger_remote", "OTEL_TRACES_SAMPLER_ARG": "endpoint=x"}

    assert load_settings(environ).settings.tracing.sample_ratio == 1.0


def test_load_settings_without_argument_reads_the_environment_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By default the environment is the process's own."""
    for name in list(os.environ):
        if name.startswith(("FLEET_", "TEMPORAL_", "OTEL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FLEET_HEALTH_PORT", "9000")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")

    assert load_settings().settings.health.port == 9000


def test_load_settings_with_a_file_variable_reads_the_stripped_file(tmp_path: Path) -> None:
    """`*_FILE` reads a file, and the source of the value is that file."""
    file = tmp_path / "headers"
    file.write_text("authorization=Bearer x\n")
    loaded = load_settings({"FLEET_TRACING_OTLP_HEADERS_FILE": str(file)})

    assert loaded.settings.tracing.otlp_headers == SecretStr("authorization=Bearer x")
    assert loaded.provenance["tracing.otlp_headers"] == f"file {file}"


def test_load_settings_with_a_mounted_secret_reads_its_files(tmp_path: Path) -> None:
    """A Kubernetes secret is read by file names in any case, with hyphens too, past its hidden entries."""
    data = tmp_path / "..2026_01_01"
    data.mkdir()
    (data / "TEMPORAL_API_KEY").write_text("s3cret\n")
    (tmp_path / "..data").symlink_to(data.name)
    (tmp_path / "TEMPORAL_API_KEY").symlink_to("..data/TEMPORAL_API_KEY")
    (tmp_path / "fleet_deployment_name").write_text("shop")
    (tmp_path / "fleet-worker-task-queue").write_text("orders\n")
    (tmp_path / "unrelated.txt").write_text("left alone")
    loaded = load_settings({"FLEET_SECRETS_DIR": str(tmp_path)})

    assert loaded.settings.temporal.api_key == SecretStr("s3cret")
    assert loaded.settings.temporal.api_key_file == tmp_path / "TEMPORAL_API_KEY"
    assert loaded.settings.deployment.name == "shop"
    assert loaded.settings.worker.task_queue == "orders"
    assert loaded.provenance["deployment.name"] == f"file {tmp_path / 'fleet_deployment_name'}"


def test_load_settings_with_variable_and_secret_prefers_the_variable(tmp_path: Path) -> None:
    """A variable overrides a mounted secret without unmounting it."""
    (tmp_path / "fleet_health_port").write_text("1000")
    environ = {"FLEET_SECRETS_DIR": str(tmp_path), "FLEET_HEALTH_PORT": "2000"}

    assert load_settings(environ).settings.health.port == 2000


def test_load_settings_with_service_links_ignores_them() -> None:
    """Services named fleet or temporal do not stop every worker of their namespace."""
    environ = {
        "FLEET_ORDERS_SERVICE_HOST": "10.0.0.1",
        "FLEET_ORDERS_SERVICE_PORT": "8080",
        "FLEET_ORDERS_SERVICE_PORT_HTTP": "8080",
        "FLEET_ORDERS_PORT": "tcp://10.0.0.1:8080",
        "FLEET_ORDERS_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "FLEET_ORDERS_PORT_8080_TCP_ADDR": "10.0.0.1",
        "TEMPORAL_FRONTEND_SERVICE_HOST": "10.0.0.2",
        "TEMPORAL_PORT": "tcp://10.0.0.2:7233",
    }

    assert load_settings(environ, root=NOWHERE).settings == load_settings({}, root=NOWHERE).settings


def test_load_settings_in_a_container_derives_processes_from_its_limit(tmp_path: Path) -> None:
    """Half a CPU means one process, and the origin of the number is told."""
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").touch()
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("50000 100000")
    loaded = load_settings({}, root=tmp_path)

    assert loaded.settings.concurrency.processes == 1
    assert loaded.provenance["concurrency.processes"] == "default: cgroup v2 cpu.max = 0.5 CPUs"


def test_load_settings_with_processes_set_ignores_the_container(tmp_path: Path) -> None:
    """What somebody set is not second-guessed."""
    loaded = load_settings({"FLEET_CONCURRENCY_PROCESSES": "12"}, root=tmp_path)

    assert loaded.settings.concurrency.processes == 12
    assert loaded.provenance["concurrency.processes"] == "FLEET_CONCURRENCY_PROCESSES"


def test_rows_of_loaded_settings_show_value_source_and_no_secret() -> None:
    """Every setting has a row; secrets are masked, also inside URLs."""
    loaded = load_settings(
        {
            "TEMPORAL_API_KEY": "s3cret",
            "TEMPORAL_GRPC_META_AUTHORIZATION": "s3cret",
            "FLEET_TRACING_OTLP_ENDPOINT": "http://me:s3cret@collector:4318",
            "FLEET_DRAIN_TIMEOUT_SECONDS": "12.5",
        },
        root=NOWHERE,
    )
    shown = {row.path: row for row in rows(loaded)}

    assert list(shown) == list(loaded.provenance)
    assert not any("s3cret" in row.value_masked for row in shown.values())
    assert shown["temporal.grpc_meta"].value_masked == "authorization: ****"
    assert shown["tracing.otlp_endpoint"].value_masked == "http://me:****@collector:4318"
    drain = shown["drain.timeout"]
    assert (drain.value_masked, drain.source, drain.default, drain.unit) == (
        "12.5",
        "FLEET_DRAIN_TIMEOUT_SECONDS",
        "30",
        "seconds",
    )
    assert drain.description.startswith("How long running activities may continue after SIGTERM")


def test_rows_of_loaded_settings_are_all_described() -> None:
    """No setting is without a text and a type."""
    assert not [r.path for r in rows(load_settings({})) if not r.description or not r.type]


def test_reference_written_twice_is_the_same_and_lists_every_setting() -> None:
    """The reference does not depend on the machine and leaves nothing out."""
    text = reference_markdown()

    assert text == reference_markdown()
    assert all(f"| `{row.env}` | `{row.path}` |" in text for row in rows(load_settings({})))
    assert "CPU limit of the container" in text


def test_settings_imported_load_neither_the_sdk_nor_a_toml_reader() -> None:
    """Importing and loading settings costs pydantic and nothing heavier."""
    code = (
        "import sys, temporal_fleet.settings as s; s.load_settings({})\n"
        "print([m for m in ('temporalio', 'tomllib', 'rich', 'structlog') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )

    assert out.stdout.strip() == "[]"
