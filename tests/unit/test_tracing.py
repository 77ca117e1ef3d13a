"""Tracing that is off, and tracing whose packages are missing."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

from missing_module import output_without

from temporal_fleet.settings import Settings
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
        "installed. Run `pip install temporal-fleet[otel]`, or unset it to run without traces.\n"
    )
