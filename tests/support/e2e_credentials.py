"""A gateway with TLS and API keys in front of the Temporal server, as objects of the cluster."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trustme
from e2e_cluster import JsonObject, Namespace
from e2e_temporal import container_security, pod_security
from e2e_values import FleetValues, Images

GATEWAY = "gateway"
PORT = 7243
KEY_SECRET = "api-key"
SOURCES = ("e2e_gateway.py", "tls_proxy.py")
MOUNTED = "/gateway"


async def gateway(
    namespace: Namespace, images: Images, values: FleetValues, accepted: Sequence[str]
) -> dict[str, Any]:
    """Start a gateway that accepts some API keys, and return the values by which workers connect to it."""
    host = f"{GATEWAY}.{namespace.name}.svc"
    authority = trustme.CA()
    leaf = authority.issue_cert(host)
    certificate = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
    await namespace.apply(
        secret("gateway-tls", {"tls.crt": certificate, "tls.key": leaf.private_key_pem.bytes()}),
        secret("authority", {"ca.crt": authority.cert_pem.bytes()}),
        *_objects(images.reference("e2e"), values.address, accepted),
    )
    await namespace.rolled_out(GATEWAY)
    return {
        "address": f"{host}:{PORT}",
        "tls": {"ca": {"secretName": "authority"}},
        "apiKey": {"secretName": KEY_SECRET},
    }


def key_secret(key: str) -> JsonObject:
    """Return the Secret from which workers read their API key."""
    return secret(KEY_SECRET, {"api-key": key.encode()})


def secret(name: str, content: dict[str, bytes]) -> JsonObject:
    """Return a Secret."""
    data = {key: base64.b64encode(value).decode() for key, value in content.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def _objects(image: str, server: str, accepted: Sequence[str]) -> list[JsonObject]:
    sources = {name: (Path(__file__).parent / name).read_text() for name in SOURCES}
    selector = {"app": GATEWAY}
    certificate = (f"{MOUNTED}/tls/tls.crt", f"{MOUNTED}/tls/tls.key")
    container = {
        "name": GATEWAY,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", f"{MOUNTED}/e2e_gateway.py"],
        "args": [server, str(PORT), *certificate, *accepted],
        "env": [{"name": "PYTHONPATH", "value": MOUNTED}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "sources", "mountPath": MOUNTED},
            {"name": "tls", "mountPath": f"{MOUNTED}/tls"},
        ],
    }
    projected = [{"configMap": {"name": "gateway"}}]
    pod = {
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": [
            {"name": "sources", "projected": {"sources": projected}},
            {"name": "tls", "secret": {"secretName": "gateway-tls"}},
        ],
    }
    template = {"metadata": {"labels": selector}, "spec": pod}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "gateway"},
            "data": sources,
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": GATEWAY},
            "spec": {"selector": {"matchLabels": selector}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": GATEWAY},
            "spec": {"selector": selector, "ports": [{"port": PORT}]},
        },
    ]
