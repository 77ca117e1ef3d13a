from __future__ import annotations

import pytest
from manifests import OPTIONAL_APIS, Chart, Kustomize, Objects, Values, require_tool

TWO_QUEUES: Values = {
    "temporal": {
        "address": "temporal.example:7233",
        "namespace": "shop",
        "tls": {
            "ca": {"secretName": "temporal-ca"},
            "client": {"secretName": "temporal-client"},
        },
        "apiKey": {"secretName": "temporal-key"},
    },
    "networkPolicy": {"enabled": True},
    "monitoring": {
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True},
    },
    "queueDefaults": {
        "settings": {"drainTimeoutSeconds": 60},
        "env": {"REGION": "eu"},
        "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 8},
    },
    "queues": {
        "orders": {
            "taskQueue": "orders for all",
            "settings": {"concurrencyActivities": 20, "tracingOtlpEndpoint": "http://otlp:4318"},
            "secretEnv": {"ORDERS_DATABASE_URL": "postgresql://somewhere"},
            "secretFiles": [{"secretName": "orders-files"}],
            "routing": {"current": "blue", "ramping": "green", "percentage": 12.5},
            "builds": {
                "blue": {"buildId": "1.4.0-abc"},
                "green": {"buildId": "1.5.0-def", "replicas": 4, "env": {"REGION": "us"}},
                "old": {"buildId": "1.3.0-xyz", "autoscaling": {"enabled": False}},
            },
        },
        "payments": {
            "taskQueue": "payments",
            "autoscaling": {"engine": "keda"},
            "builds": {"blue": {"buildId": "7"}, "plain": {"buildId": "6", "versioned": False}},
            "routing": {"current": "plain"},
        },
    },
}
"""Nearly everything at once: what must hold between objects has to hold here."""


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Chart:
    """The chart, rendered by helm."""
    return Chart(require_tool("helm"), tmp_path_factory.mktemp("values"))


@pytest.fixture(scope="session")
def kustomize() -> Kustomize:
    """The overlays, built by kubectl."""
    return Kustomize(require_tool("kubectl"))


@pytest.fixture(scope="session")
def two_queues() -> Values:
    """Values of two task queues with five builds, and nearly every option on."""
    return TWO_QUEUES


@pytest.fixture(scope="session")
def fleet(chart: Chart) -> Objects:
    """What the chart makes of `two_queues`."""
    return chart.render(TWO_QUEUES, apis=OPTIONAL_APIS)
