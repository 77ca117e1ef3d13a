"""Every setting of the runtime can be set from values, by its derived name, and arrives as it was meant."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from functools import reduce
from typing import Any

import pytest
import yaml
from manifests import CHART, Chart, Values

from temporal_fleet.settings import Settings, load_settings
from temporal_fleet.settings.fields import SettingField, helm_name, setting_fields

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
IN_SETTINGS: dict[str, Any] = SCHEMA["$defs"]["settings"]["properties"]
OWN_KEYS: dict[str, dict[str, Any]] = {
    "worker.task_queue": {"taskQueue": "another"},
    "deployment.name": {"deploymentName": "another"},
    "deployment.build_id": {"builds": {"blue": {"buildId": "9.9"}}},
    "deployment.versioning": {"builds": {"blue": {"buildId": "9.9", "versioned": False}}},
}
"""Settings with keys of their own in the values of a queue."""
OF_TEMPORAL: dict[str, Values] = {
    "temporal.address": {"address": "elsewhere:1"},
    "temporal.namespace": {"namespace": "shop"},
    "temporal.tls": {"tls": {"enabled": False}},
    "temporal.tls_server_name": {"tls": {"serverName": "name"}},
    "temporal.api_key_file": {"apiKey": {"secretName": "key"}},
    "temporal.tls_server_ca_cert_path": {"tls": {"ca": {"secretName": "ca"}}},
    "temporal.tls_client_cert_path": {"tls": {"client": {"secretName": "client"}}},
    "temporal.tls_client_key_path": {"tls": {"client": {"secretName": "client"}}},
    "temporal.grpc_meta": {"env": {"TEMPORAL_GRPC_META_MY_HEADER": "x"}},
    "temporal.profile": {"env": {"TEMPORAL_PROFILE": "p"}},
    "temporal.config_file": {"env": {"TEMPORAL_CONFIG_FILE": "/etc/temporal.toml"}},
}
"""Settings of the connection, as values of `temporal`."""
OF_CODEC: dict[str, Values] = {
    "codec.keys_directory": {"secretName": "payload-keys"},
    "codec.encryption_key_id": {"secretName": "payload-keys", "encryptionKeyId": "2026-11"},
}
"""Settings of the encryption of payloads, as values of `temporal.codec`."""
SECRET = {
    "connection.https_proxy",
    "temporal.api_key",
    "temporal.tls_client_cert_data",
    "temporal.tls_client_key_data",
    "temporal.tls_server_ca_cert_data",
    "tracing.otlp_headers",
}
"""Never in a ConfigMap: `envFrom` or `secretFiles` bring them, or `secretEnv` what no Job needs."""

PATHS = {helm_name(path): path for path in setting_fields(Settings)}
CHOSEN: dict[str, Any] = {
    "workerHeartbeatIntervalSeconds": 0,
    "healthPort": 9090,
    "connectionDeadlineSeconds": 99.5,
    "connectionBackoffMaximumSeconds": 7,
    "concurrencyPollersMinimum": 2,
    "concurrencyPollersInitial": 3,
    "concurrencyThreads": 0,
    "drainTimeoutSeconds": 90,
    "drainWarningSeconds": 0,
    "drainForceTimeoutSeconds": 0.05,
    "healthLivenessTimeoutSeconds": 44,
    "metricsHistogramBuckets": "page_bytes=1000,100000 score=0.5,0.9",
}
"""Where rules between settings, or a notation of its own, admit less than each one's own range."""


def _values(settings: Values, **queue: Any) -> Values:
    return {
        "temporal": {"address": "temporal:7233"},
        "queues": {
            "orders": {"builds": {"blue": {"buildId": "1.4.0"}}, "settings": settings, **queue}
        },
    }


def _load(chart: Chart, values: Values) -> Settings:
    variables = chart.render(values).variables("fleet-orders-blue")
    # What the chart mounts as files is not there.
    known = {name: text for name, text in variables.items() if not name.startswith("TEMPORAL_")}
    return load_settings(environ=known).settings


def _at(settings: Settings, path: str) -> Any:
    return reduce(getattr, path.split("."), settings)


def _other_than_default(field: SettingField) -> Any:
    """A value that is not the default, within the range, of the kind that gets lost most easily."""
    default = _default(field)
    if field.choices:
        return next(choice for choice in reversed(field.choices) if choice != default)
    if bool in field.types:
        return not default
    if field.is_list:
        return [0.5, 1, 20]
    if str in field.types:
        return "127.0.0.1" if "address" in field.path else "http://10.0.0.1:4318"
    if field.bounds.get("ge") in {0, timedelta(0)} and default != 0:
        return 0
    if int in field.types:
        # So large that YAML's own notation would be 1e+06, where the range allows it.
        return min(field.bounds.get("le", 1_000_000), 1_000_000)
    return 0.125


def _default(field: SettingField) -> Any:
    if field.info.default_factory is not None:
        return None
    default = field.info.get_default(call_default_factory=False)
    return default.total_seconds() if isinstance(default, timedelta) else default


def test_every_setting_can_be_reached_from_values() -> None:
    """Each setting of the runtime is in `settings`, has a key of its own, or is a secret."""
    reached = {PATHS[name] for name in IN_SETTINGS}

    elsewhere = set(OWN_KEYS) | set(OF_TEMPORAL) | set(OF_CODEC) | SECRET
    assert reached | elsewhere == set(setting_fields(Settings))
    assert not reached & elsewhere


def _all_other_than_default() -> dict[str, Any]:
    fields = setting_fields(Settings)
    return {name: _other_than_default(fields[PATHS[name]]) for name in IN_SETTINGS} | CHOSEN


def test_settings_set_to_null_are_those_of_the_runtime(chart: Chart) -> None:
    """A queue takes back what queueDefaults says with null, and gets the runtime's own default."""
    wanted = _all_other_than_default()
    values = {**_values(dict.fromkeys(wanted)), "queueDefaults": {"settings": wanted}}
    loaded, plain = _load(chart, values), _load(chart, _values({}))

    assert [name for name in wanted if _at(loaded, PATHS[name]) != _at(plain, PATHS[name])] == []


def test_settings_arrive_as_they_were_written(chart: Chart) -> None:
    """What values say, the worker loads: numbers, 0, false, words, lists and large numbers."""
    wanted = _all_other_than_default()
    loaded, plain = _load(chart, _values(wanted)), _load(chart, _values({}))

    assert [name for name in wanted if _at(loaded, PATHS[name]) == _at(plain, PATHS[name])] == []
    for name, value in wanted.items():
        arrived = _at(loaded, PATHS[name])
        if isinstance(arrived, timedelta):
            arrived = arrived.total_seconds()
        if isinstance(arrived, tuple):
            arrived = list(arrived)
        assert arrived == (None if name == "workerHeartbeatIntervalSeconds" else value), name


@pytest.mark.parametrize("path", OWN_KEYS)
def test_settings_with_keys_of_their_own_arrive(chart: Chart, path: str) -> None:
    """Task queue, Worker Deployment, build ID and versioning reach the worker."""
    values = _values({}, **OWN_KEYS[path])
    expected = {
        "worker.task_queue": "another",
        "deployment.name": "another",
        "deployment.build_id": "9.9",
        "deployment.versioning": False,
    }

    assert _at(_load(chart, values), path) == expected[path]


@pytest.mark.parametrize("path", OF_TEMPORAL)
def test_settings_of_the_connection_arrive(chart: Chart, path: str) -> None:
    """What `temporal` says is in the variables of workers, and the same in those of the Jobs."""
    values = {**_values({}), "temporal": {"address": "temporal:7233", **OF_TEMPORAL[path]}}
    rendered = chart.render(values)
    field = setting_fields(Settings)[path]
    prefix = field.env

    worker = rendered.variables("fleet-orders-blue")
    of_worker = {name: text for name, text in worker.items() if name.startswith("TEMPORAL_")}
    assert [text for name, text in worker.items() if name.startswith(prefix)]
    for job in rendered.of_kind("Job"):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        of_job = {each["name"]: each["value"] for each in container["env"]}
        assert of_job == of_worker


def test_payload_keys_reach_workers_and_no_others(chart: Chart, two_queues: Values) -> None:
    """Each worker has the keys and knows which one encrypts; Jobs, which read no payload, have none."""
    codec = OF_CODEC["codec.encryption_key_id"]
    values = {**two_queues, "temporal": {**two_queues["temporal"], "codec": codec}}
    rendered = chart.render(values)
    workers = rendered.of_kind("Deployment")
    pods = [(worker["metadata"]["name"], worker["spec"]["template"]["spec"]) for worker in workers]

    assert len(pods) >= 4
    for name, pod in pods:
        settings = rendered.variables(name)
        mounts = {m["mountPath"]: m for m in pod["containers"][0]["volumeMounts"]}
        mount = mounts[settings["FLEET_CODEC_KEYS_DIRECTORY"]]
        volume = next(v for v in pod["volumes"] if v["name"] == mount["name"])
        assert volume["secret"] == {"secretName": "payload-keys", "defaultMode": 0o440}
        assert mount["readOnly"] is True
        assert "subPath" not in mount
        assert settings["FLEET_CODEC_ENCRYPTION_KEY_ID"] == "2026-11"
    others = [yaml.safe_dump(each) for each in rendered.all if each not in workers]
    assert not [text for text in others if "payload-keys" in text or "name: codec-keys" in text]


def test_payload_keys_without_an_encryption_key_only_decrypt(chart: Chart) -> None:
    """A Secret alone gives the workers the keys and encrypts nothing; without one nothing is set."""
    temporal = {"address": "temporal:7233", "codec": OF_CODEC["codec.keys_directory"]}
    decrypting = chart.render({**_values({}), "temporal": temporal}).variables("fleet-orders-blue")
    plain = chart.render(_values({})).variables("fleet-orders-blue")

    assert "FLEET_CODEC_KEYS_DIRECTORY" in decrypting
    assert "FLEET_CODEC_ENCRYPTION_KEY_ID" not in decrypting
    assert not [name for name in plain if name.startswith("FLEET_CODEC_")]


def test_mounted_credentials_are_where_the_variables_say(chart: Chart, two_queues: Values) -> None:
    """Each path in a variable lies in a directory that is mounted, in workers and in Jobs alike."""
    rendered = chart.render(two_queues)
    for _, pod in rendered.pods():
        for container in pod["spec"]["containers"]:
            variables = {each["name"]: each.get("value", "") for each in container.get("env", [])}
            for source in container.get("envFrom", []):
                if "configMapRef" in source:
                    name = source["configMapRef"]["name"]
                    variables |= rendered.named("ConfigMap", name)["data"]
            mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
            paths = [text for text in variables.values() if text.startswith("/etc/fleet/")]
            assert len(paths) >= 4
            assert all(p in mounted or p.rpartition("/")[0] in mounted for p in paths)


@pytest.mark.parametrize("name", IN_SETTINGS)
def test_default_in_the_schema_is_the_default_in_python(name: str) -> None:
    """Whoever reads the schema reads the value that a worker takes."""
    field = setting_fields(Settings)[PATHS[name]]
    default = _default(field)

    if "default" in IN_SETTINGS[name]:
        assert IN_SETTINGS[name]["default"] == (
            list(default) if isinstance(default, tuple) else default
        )
    else:
        assert field.default_text in IN_SETTINGS[name]["description"]
    assert field.env in IN_SETTINGS[name]["description"]


def test_defaults_of_the_drain_are_those_of_the_runtime(chart: Chart) -> None:
    """Without settings the pod gets the runtime's own drain timeout and margin, and time to end itself."""
    drain = Settings().drain
    spec = chart.render().only("Deployment")["spec"]["template"]["spec"]

    total = (drain.timeout + drain.margin).total_seconds()
    assert total < spec["terminationGracePeriodSeconds"] <= total + 30


@pytest.mark.parametrize(
    "settings",
    [
        {"drainTimeoutSeconds": 0},
        {"drainTimeoutSeconds": 3600},
        {"drainTimeoutSeconds": 0.5, "drainMarginSeconds": 0.25},
        {"drainMarginSeconds": 45.5},
    ],
)
def test_grace_period_holds_the_drain(chart: Chart, settings: Values) -> None:
    """The kubelet waits longer than the drain may take, whatever was set."""
    rendered = chart.render(_values(settings))
    drain = _load(chart, _values(settings)).drain
    grace = rendered.only("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]

    assert grace > (drain.timeout + drain.margin).total_seconds()


def test_probes_wait_longer_than_the_runtime(chart: Chart) -> None:
    """The kubelet gives up later than the runtime itself, which ends with a message about the cause."""
    settings = {"connectionDeadlineSeconds": 300, "healthLivenessTimeoutSeconds": 100}
    deployment = chart.render(_values(settings)).only("Deployment")
    (worker,) = deployment["spec"]["template"]["spec"]["containers"]
    startup, liveness = worker["startupProbe"], worker["livenessProbe"]

    assert startup["periodSeconds"] * startup["failureThreshold"] > 300
    assert liveness["periodSeconds"] * liveness["failureThreshold"] > 100


def test_health_port_moves_probes_and_port_alike(chart: Chart) -> None:
    """Another health port is the port that probes, monitors and policies know as `health`."""
    deployment = chart.render(_values({"healthPort": 9191})).only("Deployment")
    (worker,) = deployment["spec"]["template"]["spec"]["containers"]

    assert worker["ports"] == [{"name": "health", "containerPort": 9191, "protocol": "TCP"}]
    assert _load(chart, _values({"healthPort": 9191})).health.port == 9191


def test_names_are_derived() -> None:
    """A name in values and its variable are the same words: camel case here, capitals and FLEET_ there."""
    for name in IN_SETTINGS:
        words = re.sub(r"([A-Z])", r"_\1", name).upper()
        assert setting_fields(Settings)[PATHS[name]].env == f"FLEET_{words}"
