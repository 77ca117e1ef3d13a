from __future__ import annotations

from pathlib import Path

import pytest

from temporal_fleet.errors import SettingsError
from temporal_fleet.settings import load_settings


def problems_of(environ: dict[str, str]) -> list[str]:
    """Return the problems of an environment, as a user sees them."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    return [str(problem) for problem in caught.value.problems]


PROBLEMS = [
    (
        {"FLEET_DRAIN_TIMEOUT_SECONDS": "30s"},
        "FLEET_DRAIN_TIMEOUT_SECONDS: '30s' is not a number of seconds (set in the environment). "
        "Use a number of seconds, at least 0.",
    ),
    (
        {"FLEET_DRAIN_TIMEOUT_SECONDS": "inf"},
        "FLEET_DRAIN_TIMEOUT_SECONDS: 'inf' is not a number of seconds (set in the environment). "
        "Use a number of seconds, at least 0.",
    ),
    (
        {"FLEET_HEALTH_PORT": "99999"},
        "FLEET_HEALTH_PORT: '99999' is too large (set in the environment). "
        "Use a whole number from 0 to 65535.",
    ),
    (
        {"FLEET_HEALTH_PORT": "tcp://10.0.0.7:8080"},
        "FLEET_HEALTH_PORT: 'tcp://10.0.0.7:8080' is not a whole number (set in the environment). "
        "Kubernetes sets it for a Service of that name: use enableServiceLinks: false in the pod, "
        "or rename the Service.",
    ),
    (
        {"FLEET_WORKER_HEARTBEAT_INTERVAL_SECONDS": "0.5"},
        "FLEET_WORKER_HEARTBEAT_INTERVAL_SECONDS: '0.5' is too small (set in the environment). "
        "Use a number of seconds from 1 to 60.",
    ),
    (
        {"FLEET_WORKER_HEARTBEAT_INTERVAL_SECONDS": "61"},
        "FLEET_WORKER_HEARTBEAT_INTERVAL_SECONDS: '61' is too large (set in the environment). "
        "Use a number of seconds from 1 to 60.",
    ),
    (
        {"FLEET_LOG_FORMAT": "jsn"},
        "FLEET_LOG_FORMAT: 'jsn' is not one of auto, json, console (set in the environment). "
        "Did you mean json?",
    ),
    (
        {"FLEET_CONCURRENCY_TUNER": "magic"},
        "FLEET_CONCURRENCY_TUNER: 'magic' is not one of fixed, resource (set in the environment). "
        "Use one of fixed, resource.",
    ),
    (
        {"FLEET_METRICS_ENABLED": "perhaps"},
        "FLEET_METRICS_ENABLED: 'perhaps' is neither true nor false (set in the environment). "
        "Use true or false.",
    ),
    (
        {"FLEET_TRACING_SAMPLE_RATIO": "1.5"},
        "FLEET_TRACING_SAMPLE_RATIO: '1.5' is too large (set in the environment). "
        "Use a number from 0 to 1.",
    ),
    (
        {"OTEL_TRACES_SAMPLER_ARG": "half"},
        "FLEET_TRACING_SAMPLE_RATIO: 'half' is not a number (set in OTEL_TRACES_SAMPLER_ARG). "
        "Use a number from 0 to 1.",
    ),
    (
        {"FLEET_TRACING_OTLP_ENDPOINT": "collector:4318"},
        "FLEET_TRACING_OTLP_ENDPOINT: 'collector:4318' is not a URL of a collector (set in the "
        "environment). Use http:// or https:// with host and port, such as http://collector:4318.",
    ),
    (
        {"FLEET_METRICS_LATENCY_BUCKETS": "1,0.5"},
        "FLEET_METRICS_LATENCY_BUCKETS: 1,0.5 is not increasing (set in the environment). "
        "List every upper bound once, smallest first.",
    ),
    (
        {"FLEET_METRICS_HISTOGRAM_BUCKETS": "score=5,1"},
        "FLEET_METRICS_HISTOGRAM_BUCKETS: 5,1 is not increasing (set in the environment). "
        "List every upper bound once, smallest first.",
    ),
    *(
        (
            {"FLEET_METRICS_HISTOGRAM_BUCKETS": text},
            f"FLEET_METRICS_HISTOGRAM_BUCKETS: '{text}' is not a list of histograms with bounds (set "
            "in the environment). Write each name once with its upper bounds, such as "
            "page_bytes=1000,100000 score=0.5,0.9.",
        )
        for text in ("score", "score=1 score=2", "score=0,1", "score=1,inf", "=1", "score=1,b")
    ),
    (
        {"FLEET_METRICS_HISTOGRAM_BUCKETS": "score=1 my_score=2"},
        "FLEET_METRICS_HISTOGRAM_BUCKETS: my_score cannot be told apart from score, as one name "
        "contains the other (set in the environment). List only the shorter name, or rename one of "
        "the histograms.",
    ),
    (
        {"FLEET_METRICS_HISTOGRAM_BUCKETS": "my_long_request_latency=1"},
        "FLEET_METRICS_HISTOGRAM_BUCKETS: my_long_request_latency cannot be told apart from "
        "request_latency, as one name contains the other (set in the environment). Rename the "
        "histogram; that one is the SDK's.",
    ),
    (
        {"FLEET_DRAIN_WARNING_SECONDS": "40"},
        "FLEET_DRAIN_WARNING_SECONDS: 40 is not less than FLEET_DRAIN_TIMEOUT_SECONDS, which is 30 "
        "(set in the environment). Lower it, raise FLEET_DRAIN_TIMEOUT_SECONDS, or use 0 for no "
        "warning.",
    ),
    (
        {"FLEET_DRAIN_FORCE_TIMEOUT_SECONDS": "10"},
        "FLEET_DRAIN_FORCE_TIMEOUT_SECONDS: 10 is not less than FLEET_DRAIN_MARGIN_SECONDS, which "
        "is 10 (set in the environment). Lower it, or raise FLEET_DRAIN_MARGIN_SECONDS.",
    ),
    (
        {"FLEET_DEPLOYMENT_VERSIONING": "true"},
        "FLEET_DEPLOYMENT_BUILD_ID: is not set, but FLEET_DEPLOYMENT_VERSIONING is true. Set it to "
        "the build ID of this image, or turn FLEET_DEPLOYMENT_VERSIONING off.",
    ),
    (
        {"FLEET_CONCURRENCY_POLLERS_MINIMUM": "9", "FLEET_CONCURRENCY_POLLERS_MAXIMUM": "8"},
        "FLEET_CONCURRENCY_POLLERS_MINIMUM: 9 is more than FLEET_CONCURRENCY_POLLERS_MAXIMUM, "
        "which is 8 (set in the environment). Lower it, or raise "
        "FLEET_CONCURRENCY_POLLERS_MAXIMUM.",
    ),
    (
        {"FLEET_CONCURRENCY_POLLERS_INITIAL": "200"},
        "FLEET_CONCURRENCY_POLLERS_INITIAL: 200 is not between FLEET_CONCURRENCY_POLLERS_MINIMUM, "
        "which is 1, and FLEET_CONCURRENCY_POLLERS_MAXIMUM, which is 100 (set in the environment). "
        "Use 1 to 100.",
    ),
    (
        {"FLEET_CONCURRENCY_POLLERS": "fixed", "FLEET_CONCURRENCY_POLLERS_WORKFLOW": "1"},
        "FLEET_CONCURRENCY_POLLERS_WORKFLOW: 1 is too few while FLEET_CONCURRENCY_STICKY_CACHE_SIZE"
        " is 1000 (set in the environment). Use 2 or more, or set "
        "FLEET_CONCURRENCY_STICKY_CACHE_SIZE to 0.",
    ),
    (
        {"FLEET_CONNECTION_ATTEMPT_TIMEOUT_SECONDS": "90"},
        "FLEET_CONNECTION_ATTEMPT_TIMEOUT_SECONDS: 90 is more than "
        "FLEET_CONNECTION_DEADLINE_SECONDS, which is 60 (set in the environment). Lower it, or "
        "raise FLEET_CONNECTION_DEADLINE_SECONDS.",
    ),
    (
        {"FLEET_HEALTH_LIVENESS_TIMEOUT_SECONDS": "0.4"},
        "FLEET_HEALTH_LIVENESS_TIMEOUT_SECONDS: 0.4 is less than two intervals of "
        "FLEET_EVENT_LOOP_HEARTBEAT_INTERVAL_SECONDS, which is 0.25 (set in the environment). "
        "Raise it, or lower FLEET_EVENT_LOOP_HEARTBEAT_INTERVAL_SECONDS.",
    ),
    (
        {"FLEET_DRAIN_TIMOUT_SECONDS": "1"},
        "FLEET_DRAIN_TIMOUT_SECONDS: is not a setting (set in the environment). "
        "Did you mean FLEET_DRAIN_TIMEOUT_SECONDS?",
    ),
    (
        {"FLEET_DRAIN_TIMEOUT": "1"},
        "FLEET_DRAIN_TIMEOUT: is not a setting (set in the environment). "
        "Did you mean FLEET_DRAIN_TIMEOUT_SECONDS?",
    ),
    (
        {"FLEET_TEMPORAL_ADDRESS": "x:1"},
        "FLEET_TEMPORAL_ADDRESS: is not a setting (set in the environment). "
        "Did you mean TEMPORAL_ADDRESS?",
    ),
    (
        {"fleet_health_port": "1"},
        "fleet_health_port: is not a setting (set in the environment). "
        "Did you mean FLEET_HEALTH_PORT?",
    ),
    (
        {"FLEET_QQQ": "1"},
        "FLEET_QQQ: is not a setting (set in the environment). Remove it, or correct its name.",
    ),
    (
        {"FLEET_HEALTH_PORT": "1", "FLEET_HEALTH_PORT_FILE": "/x"},
        "FLEET_HEALTH_PORT: is set together with FLEET_HEALTH_PORT_FILE (set in the environment). "
        "Keep one of the two.",
    ),
    (
        {"FLEET_TRACING_OTLP_HEADERS_FILE": "/nonexistent/headers"},
        "FLEET_TRACING_OTLP_HEADERS_FILE: '/nonexistent/headers' cannot be read: No such file or "
        "directory (set in the environment). Mount the file, or correct the path.",
    ),
    (
        {"FLEET_SECRETS_DIR": "/nonexistent"},
        "FLEET_SECRETS_DIR: '/nonexistent' cannot be read: No such file or directory (set in the "
        "environment). Mount the file, or correct the path.",
    ),
]


@pytest.mark.parametrize(("environ", "text"), PROBLEMS)
def test_load_settings_with_something_wrong_says_what_and_what_to_do(
    environ: dict[str, str], text: str
) -> None:
    """One wrong setting is one problem, with name, value, source and cure."""
    assert problems_of(environ) == [text]


FILES_AT_FAULT = {
    "empty": (b" \n", "it is empty"),
    "binary": (b"\xff\xfe", "it is not UTF-8 text"),
}


@pytest.mark.parametrize(("content", "reason"), FILES_AT_FAULT.values(), ids=FILES_AT_FAULT.keys())
def test_load_settings_with_a_useless_file_names_it(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    """A secret that is not filled in yet stops the worker instead of being no secret."""
    file = tmp_path / "key"
    file.write_bytes(content)

    assert problems_of({"TEMPORAL_API_KEY_FILE": str(file)}) == [
        f"TEMPORAL_API_KEY_FILE: '{file}' cannot be read: {reason} (set in the environment). "
        "Mount the file, or correct the path."
    ]


def test_load_settings_with_a_wrong_secret_file_names_the_file(tmp_path: Path) -> None:
    """A wrong value from the secrets directory is told with its file."""
    (tmp_path / "FLEET_HEALTH_PORT").write_text("x")
    (tmp_path / "fleet_helth_port").write_text("1")

    assert problems_of({"FLEET_SECRETS_DIR": str(tmp_path)}) == [
        f"FLEET_HEALTH_PORT: 'x' is not a whole number (set in file {tmp_path}/FLEET_HEALTH_PORT). "
        "Use a whole number from 0 to 65535.",
        f"FLEET_HELTH_PORT: is not a setting (set in file {tmp_path}/fleet_helth_port). "
        "Did you mean FLEET_HEALTH_PORT?",
    ]


def test_load_settings_with_many_things_wrong_tells_all_at_once() -> None:
    """Nobody has to start a worker once for every mistake."""
    environ = {
        "FLEET_UNKNOWN_THING": "1",
        "FLEET_HEALTH_PORT": "x",
        "FLEET_DRAIN_TIMEOUT_SECONDS": "3",
        "FLEET_DRAIN_WARNING_SECONDS": "4",
        "FLEET_DRAIN_FORCE_TIMEOUT_SECONDS": "50",
        "TEMPORAL_ADDRESS": "localhost",
        "TEMPORAL_TLS": "no",
    }
    subjects = [p.partition(":")[0] for p in problems_of(environ)]

    assert subjects == [
        "TEMPORAL_ADDRESS",
        "TEMPORAL_TLS",
        "FLEET_DRAIN_WARNING_SECONDS",
        "FLEET_DRAIN_FORCE_TIMEOUT_SECONDS",
        "FLEET_HEALTH_PORT",
        "FLEET_UNKNOWN_THING",
    ]
