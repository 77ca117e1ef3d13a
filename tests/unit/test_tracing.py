"""Tracing that is off, and tracing whose packages are missing."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest
from missing_module import output_without
from structlog.testing import capture_logs

from temporal_fleet.settings import Settings, load_settings
from temporal_fleet.telemetry.tracing import start_tracing

WITHOUT_OPENTELEMETRY = """
from temporal_fleet.errors import SettingsError
from temporal_fleet.settings import Settings, TracingSettings
from temporal_fleet.telemetry.tracing import start_tracing

settings = Settings(tracing=TracingSettings(otlp_endpoint="http://collector:4318"))
try:
    start_tracing(settings, workload="orders", identity="pod-1")
except SettingsError as error:
    print(error)
"""


def test_tracing_without_endpoint_is_off_and_imports_nothing() -> None:
    """Without an endpoint there are no interceptors, and no OpenTelemetry in memory."""
    tracing = start_tracing(Settings(), workload="orders", identity="pod-1")
    code = "import sys, temporal_fleet.telemetry.tracing; sys.exit('opentelemetry' in sys.modules)"

    assert tracing.interceptors == ()
    assert tracing.flush(timedelta(seconds=1))
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tracing_without_opentelemetry_names_the_extra() -> None:
    """An endpoint without the packages is a settings error that says what to install."""
    printed = output_without("opentelemetry", WITHOUT_OPENTELEMETRY)

    assert printed == (
        "settings: 1 problem\n"
        "  - FLEET_TRACING_OTLP_ENDPOINT: is http://collector:4318, but OpenTelemetry is not "
        "installed. Run `pip install temporal-fleet[otel]`, or set FLEET_TRACING_OTLP_ENDPOINT to "
        "nothing to run without traces.\n"
    )


def test_tracing_endpoint_of_the_cluster_does_not_stop_a_worker_without_the_extra() -> None:
    """An endpoint that every pod of a cluster gets costs a worker that cannot trace one warning."""
    printed = output_without(
        "opentelemetry",
        WITHOUT_OPENTELEMETRY.replace(
            'identity="pod-1"', 'identity="pod-1", source="OTEL_EXPORTER_OTLP_ENDPOINT"'
        ),
    )

    assert "no traces are sent" in printed
    assert (
        "OTEL_EXPORTER_OTLP_ENDPOINT is http://collector:4318, but OpenTelemetry is not" in printed
    )


@pytest.mark.parametrize(
    ("variables", "endpoint", "source"),
    [
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:1/x"},
            "http://t:1/x",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        ),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            "http://c:1",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, "http://c:1", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_TRACES_EXPORTER": "none"}, None, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_SDK_DISABLED": "True"}, None, "OTEL_SDK_DISABLED"),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            None,
            "default: OTEL_EXPORTER_OTLP_ENDPOINT is for OTEL_EXPORTER_OTLP_PROTOCOL=grpc, "
            "not for OTLP/HTTP",
        ),
        (
            {"FLEET_TRACING_OTLP_ENDPOINT": "http://f:1", "OTEL_TRACES_EXPORTER": "none"},
            "http://f:1",
            "FLEET_TRACING_OTLP_ENDPOINT",
        ),
    ],
)
def test_tracing_follows_the_variables_of_opentelemetry(
    variables: dict[str, str], endpoint: str | None, source: str
) -> None:
    """OpenTelemetry's own variables say where traces go and whether there are any; ours win."""
    loaded = load_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1", **variables})

    assert loaded.settings.tracing.otlp_endpoint == endpoint
    assert loaded.provenance["tracing.otlp_endpoint"] == source


def test_tracing_sampler_that_samples_nothing_is_kept() -> None:
    """OTEL_TRACES_SAMPLER=always_off means no new traces, whatever its argument says."""
    variables = {"OTEL_TRACES_SAMPLER": "parentbased_always_off", "OTEL_TRACES_SAMPLER_ARG": "1"}

    assert load_settings(variables).settings.tracing.sample_ratio == 0


def test_tracing_endpoint_for_grpc_is_warned_about() -> None:
    """A collector that is given for gRPC gets nothing, and one line says what to set instead."""
    with capture_logs() as lines:
        start_tracing(Settings(), workload="orders", identity="pod-1", source="default: for gRPC")

    (line,) = lines
    assert (line["event"], line["reason"]) == ("no traces are sent", "for gRPC")
    assert "FLEET_TRACING_OTLP_ENDPOINT" in line["cure"]
