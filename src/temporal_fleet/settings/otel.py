"""OpenTelemetry's own variables, read where ours are not set.

A cluster often gives them to every pod, whatever runs there. So what this worker cannot use of them turns
tracing off and never stops it.

Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ and
https://opentelemetry.io/docs/specs/otel/protocol/exporter/.
"""

from __future__ import annotations

from temporal_fleet.settings.sources import Found, Sources

TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
"""Variable whose URL is used as it is; of the others the path ``/v1/traces`` is below."""

NOT_USED = "default: "
"""Start of the source of a setting whose variable is there and cannot be used; the reason follows."""


def find_otel(name: str, sources: Sources) -> Found | None:
    """Look up one of OpenTelemetry's variables.

    Args:
        name: The variable.
        sources: Where it is looked up.

    Returns:
        Its value, and where it was found; the value None, and why, when it is there and not to be used. None
        when it is not there.
    """
    if name == "OTEL_TRACES_SAMPLER_ARG":
        return _sample_ratio(name, sources)
    found = sources.find(name)
    if found is None or not name.endswith("_ENDPOINT"):
        return found
    return _switched_off(sources) or _other_protocol(name, sources) or found


def _sample_ratio(name: str, sources: Sources) -> Found | None:
    sampler = sources.environ.get("OTEL_TRACES_SAMPLER", "")
    if sampler.endswith("always_off"):
        return Found("0", "OTEL_TRACES_SAMPLER")
    if sampler and not sampler.endswith("traceidratio"):
        # The argument means something else for any other sampler, such as a URL.
        return None
    return sources.find(name)


def _switched_off(sources: Sources) -> Found | None:
    if sources.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Found(None, "OTEL_SDK_DISABLED")
    exporters = sources.environ.get("OTEL_TRACES_EXPORTER", "")
    if exporters.strip() and "otlp" not in exporters.replace(" ", "").split(","):
        return Found(None, "OTEL_TRACES_EXPORTER")
    return None


def _other_protocol(name: str, sources: Sources) -> Found | None:
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = sources.environ.get(variable, "").strip()
        if protocol == "grpc":
            return Found(None, f"{NOT_USED}{name} is for {variable}={protocol}, not for OTLP/HTTP")
        if protocol:
            return None
    return None
