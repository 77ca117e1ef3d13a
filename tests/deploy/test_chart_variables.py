"""Variables: credentials are refused where they could be read, and references to other variables resolve."""

from __future__ import annotations

import pytest
from chart_values import with_orders
from manifests import Chart, Object, Objects, Values, worker_of

HOST_IP = {"valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}
FROM_SECRET = {"valueFrom": {"secretKeyRef": {"name": "gateway", "key": "token"}}}


def _of_connection(**variables: object) -> Values:
    return {**with_orders(), "temporal": {"address": "t:1", "env": variables}}


def _of_hooks(**variables: object) -> Values:
    return {**with_orders(), "hooks": {"env": variables}}


CREDENTIALS: dict[str, tuple[Values, list[str]]] = {
    "header of the connection": (
        _of_connection(TEMPORAL_GRPC_META_AUTHORIZATION="Bearer hush"),
        ["temporal.env.TEMPORAL_GRPC_META_AUTHORIZATION", "queueDefaults.envFrom", "hooks.envFrom"],
    ),
    "other header of the connection": (
        _of_connection(TEMPORAL_GRPC_META_X_API_KEY="hush"),
        ["temporal.env.TEMPORAL_GRPC_META_X_API_KEY", "secretRef"],
    ),
    "proxy with a password": (
        _of_connection(HTTPS_PROXY="http://me:hush@proxy:3128"),
        ["temporal.env.HTTPS_PROXY", "hooks.envFrom"],
    ),
    "proxy without a scheme": (
        _of_connection(https_proxy="me:hush@proxy:3128"),
        ["temporal.env.https_proxy"],
    ),
    "headers of traces": (
        with_orders(env={"OTEL_EXPORTER_OTLP_HEADERS": "authorization=hush"}),
        ["build 'blue': env.OTEL_EXPORTER_OTLP_HEADERS", "secretKeyRef", "secretEnv"],
    ),
    "headers of one signal": (
        with_orders(env={"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=hush"}),
        ["build 'blue': env.OTEL_EXPORTER_OTLP_TRACES_HEADERS"],
    ),
    "database with a password": (
        with_orders(env={"ORDERS_DATABASE_URL": "postgresql://me:hush@db/orders"}),
        ["queue 'orders', build 'blue': env.ORDERS_DATABASE_URL", "secretKeyRef"],
    ),
    "database with a password alone": (
        with_orders(env={"CACHE": "redis://:hush@cache:6379"}),
        ["queue 'orders', build 'blue': env.CACHE"],
    ),
    "collector with a password": (
        with_orders(settings={"tracingOtlpEndpoint": "http://me:hush@otlp:4318"}),
        ["build 'blue': settings.tracingOtlpEndpoint", "FLEET_ variable", "secretEnv"],
    ),
    "API key of the Jobs": (
        _of_hooks(TEMPORAL_API_KEY="hush"),
        ["hooks.env.TEMPORAL_API_KEY", "secretKeyRef"],
    ),
}
"""Values that would put a credential where many may read it, and words that the message has to hold."""


@pytest.mark.parametrize("case", CREDENTIALS)
def test_credential_in_plain_text_is_refused(chart: Chart, case: str) -> None:
    """A credential never gets into a ConfigMap, a Deployment or a Job, and the message does not tell it."""
    values, words = CREDENTIALS[case]
    message = chart.refuse(values)

    assert "this is a credential" in message
    assert [word for word in words if word not in message] == []
    assert "hush" not in message


@pytest.mark.parametrize(
    "values",
    [
        _of_connection(TEMPORAL_GRPC_META_MY_HEADER="x", TEMPORAL_GRPC_META_AUTHORITY="x"),
        _of_connection(TEMPORAL_GRPC_META_AUTHORIZATION=""),
        _of_connection(HTTPS_PROXY="http://proxy:3128"),
        with_orders(env={"OTEL_EXPORTER_OTLP_HEADERS": FROM_SECRET}),
        with_orders(env={"ORDERS_DATABASE_URL": "postgresql://me@db:5432/orders?mail=a:b@c"}),
        with_orders(env={"TEMPORAL_GRPC_META_AUTHORIZATION_FILE": "/vault/token"}),
        with_orders(secretEnv={"ORDERS_DATABASE_URL": "postgresql://me:hush@db/orders"}),
        _of_hooks(TEMPORAL_GRPC_META_AUTHORIZATION=FROM_SECRET),
    ],
    ids=[
        *("plain header", "header taken away", "plain proxy", "header from a Secret"),
        *("no password", "file", "secretEnv", "Jobs from a Secret"),
    ],
)
def test_what_is_no_credential_or_comes_from_a_secret_is_taken(
    chart: Chart, values: Values
) -> None:
    """Nothing is refused that is not secret, or that is kept in a Secret."""
    assert chart.render(values).only("Deployment")


def _order(container: Object) -> list[str]:
    return [each["name"] for each in container["env"]]


def _config(rendered: Objects) -> Object:
    data: Object = rendered.named("ConfigMap", "fleet-orders-blue")["data"]
    return data


def test_variable_comes_after_those_that_it_refers_to(chart: Chart) -> None:
    """Kubernetes resolves references backwards only, so the order of names does not decide."""
    env = {"A": "http://$(B)", "B": "$(C):1", "C": HOST_IP, "D": "plain"}
    container = worker_of(chart.render(with_orders(env=env)).only("Deployment"))

    assert _order(container) == ["C", "B", "A", "D"]


def test_setting_that_refers_to_a_variable_resolves(chart: Chart) -> None:
    """Kubernetes resolves nothing in a ConfigMap, so such a setting is a variable of the container."""
    values = with_orders(
        settings={"tracingOtlpEndpoint": "http://$(HOST_IP):4318", "logLevel": "DEBUG"},
        env={"HOST_IP": HOST_IP},
    )
    rendered = chart.render(values)
    container = worker_of(rendered.only("Deployment"))

    assert container["env"] == [
        {"name": "HOST_IP", **HOST_IP},
        {"name": "FLEET_TRACING_OTLP_ENDPOINT", "value": "http://$(HOST_IP):4318"},
    ]
    assert "FLEET_TRACING_OTLP_ENDPOINT" not in _config(rendered)
    assert _config(rendered)["FLEET_LOG_LEVEL"] == "DEBUG"


def test_connection_that_refers_to_a_variable_resolves_everywhere(chart: Chart) -> None:
    """Workers and Jobs both have what a variable of the connection refers to before it."""
    variables = {"HOST_IP": HOST_IP}
    values = {
        **_of_connection(HTTPS_PROXY="http://$(HOST_IP):3128"),
        "queueDefaults": {"env": variables},
        "hooks": {"env": variables},
    }
    rendered = chart.render(values)

    assert "HTTPS_PROXY" not in _config(rendered)
    for name, pod in rendered.pods():
        names = _order(pod["spec"]["containers"][0])
        assert names.index("HOST_IP") < names.index("HTTPS_PROXY"), name


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            with_orders(env={"URL": "http://$(HOST_IP)"}),
            ["build 'blue': the variable URL refers to $(HOST_IP)", "add it to env", "hostIP"],
        ),
        (
            with_orders(settings={"tracingOtlpEndpoint": "http://$(HOST_IP):4318"}),
            ["the variable FLEET_TRACING_OTLP_ENDPOINT refers to $(HOST_IP)"],
        ),
        (
            {
                **_of_connection(HTTPS_PROXY="http://$(HOST_IP):3128"),
                "queueDefaults": {"env": {"HOST_IP": HOST_IP}},
            },
            ["a problem:", "hooks: the variable HTTPS_PROXY", "add it to hooks.env"],
        ),
        (with_orders(env={"URL": "$(URL)/path"}), ["the variable URL refers to $(URL)"]),
        (_of_hooks(URL="$(HOST)", HOST=None), ["hooks: the variable URL refers to $(HOST)"]),
        (with_orders(env={"URL": "$(HOST(IP)"}), ["the variable URL refers to $(HOST(IP)"]),
    ],
    ids=["env", "settings", "Jobs", "itself", "null", "parenthesis"],
)
def test_reference_to_nothing_is_refused(chart: Chart, values: Values, words: list[str]) -> None:
    """A reference that Kubernetes would leave as it stands is refused, with what to add and where."""
    message = chart.refuse(values)

    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            with_orders(
                env={"A": "$(B)", "B": "x$(C)", "C": "$(A)", "D": "$(A)", "E": "$(F)", "F": "1"}
            ),
            "build 'blue': variables refer to each other in a circle, so they would be passed on as they "
            "stand: A to $(B), B to $(C), C to $(A); ",
        ),
        (
            with_orders(env={"A": "$(B)", "B": "$(A)", "X": "$(Y)$(Y)", "Y": "$(X)"}),
            "stand: A to $(B), B to $(A), X to $(Y), Y to $(X); ",
        ),
        (
            with_orders(
                settings={"tracingOtlpEndpoint": "http://$(HOST)"},
                env={"HOST": "$(FLEET_TRACING_OTLP_ENDPOINT)"},
            ),
            "stand: FLEET_TRACING_OTLP_ENDPOINT to $(HOST), HOST to $(FLEET_TRACING_OTLP_ENDPOINT); ",
        ),
        (
            with_orders(
                env={"A": "$(B)", "B": "$(A)"}, envFrom=[{"configMapRef": {"name": "node"}}]
            ),
            "stand: A to $(B), B to $(A); ",
        ),
        (_of_hooks(A="$(B)", B="$(A)"), "hooks: variables refer to each other in a circle, "),
    ],
    ids=["three", "two circles", "settings", "envFrom", "Jobs"],
)
def test_references_in_a_circle_are_refused(chart: Chart, values: Values, told: str) -> None:
    """Variables that Kubernetes could not resolve in any order are named, and no others."""
    message = chart.refuse(values)

    assert told in message
    assert "a problem:" in message


@pytest.mark.parametrize(
    "queue",
    [
        {"env": {"URL": "$(HOST_IP)"}, "envFrom": [{"configMapRef": {"name": "node"}}]},
        {"env": {"URL": "$(HOST_IP)"}, "secretEnv": {"HOST_IP": "1"}},
        {"env": {"URL": "$(TEMPORAL_ADDRESS)"}},
        {"env": {"URL": "$$(HOST_IP) $(KUBERNETES_SERVICE_HOST)"}},
    ],
    ids=["envFrom", "secretEnv", "connection", "text and Kubernetes"],
)
def test_reference_to_what_is_there_is_taken(chart: Chart, queue: Values) -> None:
    """What comes from a ConfigMap, a Secret or Kubernetes itself can be referred to."""
    assert chart.render(with_orders(**queue)).only("Deployment")
