from __future__ import annotations

import pytest

from temporal_fleet.settings import Settings
from temporal_fleet.settings.fields import env_name, helm_name, setting_fields

# Every public setting: path, environment variable, Helm value, default as one would write it.
# A change here changes what users rely on: it needs an entry in the changelog.
NAMES_AND_DEFAULTS = """
temporal.address TEMPORAL_ADDRESS temporalAddress localhost:7233
temporal.namespace TEMPORAL_NAMESPACE temporalNamespace default
temporal.api_key TEMPORAL_API_KEY temporalApiKey none
temporal.api_key_file TEMPORAL_API_KEY_FILE temporalApiKeyFile none
temporal.tls TEMPORAL_TLS temporalTls none
temporal.tls_client_cert_path TEMPORAL_TLS_CLIENT_CERT_PATH temporalTlsClientCertPath none
temporal.tls_client_key_path TEMPORAL_TLS_CLIENT_KEY_PATH temporalTlsClientKeyPath none
temporal.tls_server_ca_cert_path TEMPORAL_TLS_SERVER_CA_CERT_PATH temporalTlsServerCaCertPath none
temporal.tls_client_cert_data TEMPORAL_TLS_CLIENT_CERT_DATA temporalTlsClientCertData none
temporal.tls_client_key_data TEMPORAL_TLS_CLIENT_KEY_DATA temporalTlsClientKeyData none
temporal.tls_server_ca_cert_data TEMPORAL_TLS_SERVER_CA_CERT_DATA temporalTlsServerCaCertData none
temporal.tls_server_name TEMPORAL_TLS_SERVER_NAME temporalTlsServerName none
temporal.grpc_meta TEMPORAL_GRPC_META temporalGrpcMeta none
temporal.profile TEMPORAL_PROFILE temporalProfile none
temporal.config_file TEMPORAL_CONFIG_FILE temporalConfigFile none
connection.identity FLEET_CONNECTION_IDENTITY connectionIdentity none
connection.deadline FLEET_CONNECTION_DEADLINE_SECONDS connectionDeadlineSeconds 60
connection.attempt_timeout FLEET_CONNECTION_ATTEMPT_TIMEOUT_SECONDS connectionAttemptTimeoutSeconds 10
connection.backoff_initial FLEET_CONNECTION_BACKOFF_INITIAL_SECONDS connectionBackoffInitialSeconds 0.2
connection.backoff_maximum FLEET_CONNECTION_BACKOFF_MAXIMUM_SECONDS connectionBackoffMaximumSeconds 5
connection.credentials_poll_interval FLEET_CONNECTION_CREDENTIALS_POLL_INTERVAL_SECONDS connectionCredentialsPollIntervalSeconds 10
connection.probe_interval FLEET_CONNECTION_PROBE_INTERVAL_SECONDS connectionProbeIntervalSeconds 10
connection.https_proxy FLEET_CONNECTION_HTTPS_PROXY connectionHttpsProxy none
connection.no_proxy FLEET_CONNECTION_NO_PROXY connectionNoProxy none
codec.keys_directory FLEET_CODEC_KEYS_DIRECTORY codecKeysDirectory none
codec.encryption_key_id FLEET_CODEC_ENCRYPTION_KEY_ID codecEncryptionKeyId none
worker.task_queue FLEET_WORKER_TASK_QUEUE workerTaskQueue none
worker.heartbeat_interval FLEET_WORKER_HEARTBEAT_INTERVAL_SECONDS workerHeartbeatIntervalSeconds 30
deployment.name FLEET_DEPLOYMENT_NAME deploymentName none
deployment.build_id FLEET_DEPLOYMENT_BUILD_ID deploymentBuildId none
deployment.versioning FLEET_DEPLOYMENT_VERSIONING deploymentVersioning false
deployment.default_versioning_behavior FLEET_DEPLOYMENT_DEFAULT_VERSIONING_BEHAVIOR deploymentDefaultVersioningBehavior none
concurrency.workflow_tasks FLEET_CONCURRENCY_WORKFLOW_TASKS concurrencyWorkflowTasks 100
concurrency.activities FLEET_CONCURRENCY_ACTIVITIES concurrencyActivities 100
concurrency.local_activities FLEET_CONCURRENCY_LOCAL_ACTIVITIES concurrencyLocalActivities 100
concurrency.nexus_tasks FLEET_CONCURRENCY_NEXUS_TASKS concurrencyNexusTasks 100
concurrency.sticky_cache_size FLEET_CONCURRENCY_STICKY_CACHE_SIZE concurrencyStickyCacheSize 1000
concurrency.activities_per_second FLEET_CONCURRENCY_ACTIVITIES_PER_SECOND concurrencyActivitiesPerSecond none
concurrency.task_queue_activities_per_second FLEET_CONCURRENCY_TASK_QUEUE_ACTIVITIES_PER_SECOND concurrencyTaskQueueActivitiesPerSecond none
concurrency.threads FLEET_CONCURRENCY_THREADS concurrencyThreads 100
concurrency.processes FLEET_CONCURRENCY_PROCESSES concurrencyProcesses 1
concurrency.tuner FLEET_CONCURRENCY_TUNER concurrencyTuner fixed
concurrency.tuner_target_cpu FLEET_CONCURRENCY_TUNER_TARGET_CPU concurrencyTunerTargetCpu 0.8
concurrency.tuner_target_memory FLEET_CONCURRENCY_TUNER_TARGET_MEMORY concurrencyTunerTargetMemory 0.8
concurrency.pollers FLEET_CONCURRENCY_POLLERS concurrencyPollers autoscaling
concurrency.pollers_minimum FLEET_CONCURRENCY_POLLERS_MINIMUM concurrencyPollersMinimum 1
concurrency.pollers_maximum FLEET_CONCURRENCY_POLLERS_MAXIMUM concurrencyPollersMaximum 100
concurrency.pollers_initial FLEET_CONCURRENCY_POLLERS_INITIAL concurrencyPollersInitial 5
concurrency.pollers_workflow FLEET_CONCURRENCY_POLLERS_WORKFLOW concurrencyPollersWorkflow 5
concurrency.pollers_activity FLEET_CONCURRENCY_POLLERS_ACTIVITY concurrencyPollersActivity 5
concurrency.pollers_nexus FLEET_CONCURRENCY_POLLERS_NEXUS concurrencyPollersNexus 5
drain.timeout FLEET_DRAIN_TIMEOUT_SECONDS drainTimeoutSeconds 30
drain.margin FLEET_DRAIN_MARGIN_SECONDS drainMarginSeconds 10
drain.warning FLEET_DRAIN_WARNING_SECONDS drainWarningSeconds 5
drain.force_timeout FLEET_DRAIN_FORCE_TIMEOUT_SECONDS drainForceTimeoutSeconds 2
health.bind_address FLEET_HEALTH_BIND_ADDRESS healthBindAddress 0.0.0.0
health.port FLEET_HEALTH_PORT healthPort 8080
health.liveness_timeout FLEET_HEALTH_LIVENESS_TIMEOUT_SECONDS healthLivenessTimeoutSeconds 30
event_loop.blocked_threshold FLEET_EVENT_LOOP_BLOCKED_THRESHOLD_SECONDS eventLoopBlockedThresholdSeconds 1
event_loop.heartbeat_interval FLEET_EVENT_LOOP_HEARTBEAT_INTERVAL_SECONDS eventLoopHeartbeatIntervalSeconds 0.25
event_loop.warning_interval FLEET_EVENT_LOOP_WARNING_INTERVAL_SECONDS eventLoopWarningIntervalSeconds 30
log.format FLEET_LOG_FORMAT logFormat auto
log.level FLEET_LOG_LEVEL logLevel INFO
log.core_level FLEET_LOG_CORE_LEVEL logCoreLevel WARN
metrics.enabled FLEET_METRICS_ENABLED metricsEnabled true
metrics.schedule_to_start_buckets FLEET_METRICS_SCHEDULE_TO_START_BUCKETS metricsScheduleToStartBuckets 0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10,30,60,300,1800
metrics.latency_buckets FLEET_METRICS_LATENCY_BUCKETS metricsLatencyBuckets 0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10,30,60,300,1800
metrics.histogram_buckets FLEET_METRICS_HISTOGRAM_BUCKETS metricsHistogramBuckets none
tracing.otlp_endpoint FLEET_TRACING_OTLP_ENDPOINT tracingOtlpEndpoint none
tracing.otlp_headers FLEET_TRACING_OTLP_HEADERS tracingOtlpHeaders none
tracing.sample_ratio FLEET_TRACING_SAMPLE_RATIO tracingSampleRatio 1
tracing.service_name FLEET_TRACING_SERVICE_NAME tracingServiceName none
"""  # noqa: E501

ROWS = [tuple(line.split()) for line in NAMES_AND_DEFAULTS.strip().splitlines()]


def test_settings_are_all_pinned() -> None:
    """No setting is added or removed without a line in the list above."""
    assert [row[0] for row in ROWS] == list(setting_fields(Settings))


@pytest.mark.parametrize(("path", "env", "helm", "default"), ROWS, ids=[row[0] for row in ROWS])
def test_setting_without_any_source_has_its_pinned_names_and_default(
    path: str, env: str, helm: str, default: str
) -> None:
    """The three spellings of a setting and its default stay what they were."""
    value: object = Settings()
    for name in path.split("."):
        value = getattr(value, name)

    assert (env_name(path), helm_name(path)) == (env, helm)
    assert setting_fields(Settings)[path].show(value) == default


@pytest.mark.parametrize("path", [row[0] for row in ROWS])
def test_setting_names_are_one_name_in_three_spellings(path: str) -> None:
    """The Helm value follows from the environment name, and that from the Python path."""
    env = env_name(path)
    words = env.removeprefix("FLEET_").lower().split("_")
    from_env = words[0] + "".join(word.capitalize() for word in words[1:])

    assert env.removeprefix("FLEET_").removesuffix("_SECONDS").lower() == path.replace(".", "_")
    assert helm_name(path) == from_env
