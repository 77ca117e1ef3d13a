"""Payloads that the Temporal server keeps, but cannot read."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from e2e_cluster import JsonObject, Namespace, Release
from e2e_load import start
from e2e_temporal import TemporalNamespace
from e2e_values import FleetValues, Images, Values, merged
from temporalio.client import Client

from temporal_fleet.payloads import data_converter
from temporal_fleet.settings import CodecSettings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

SECRET = "payload-keys"


def new_key() -> str:
    """Make a key as the guide says: 32 random bytes in base64."""
    return base64.b64encode(os.urandom(32)).decode()


def secret(keys: Mapping[str, str]) -> JsonObject:
    """Return the Secret with some keys."""
    metadata = {"name": SECRET}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(keys)}


def client_with(temporal: TemporalNamespace, folder: Path, keys: Mapping[str, str]) -> Client:
    """Return a client that has keys and encrypts with the last of them."""
    for name, key in keys.items():
        (folder / name).write_text(key)
    settings = CodecSettings(keys_directory=folder, encryption_key_id=list(keys)[-1])
    return Client(
        temporal.client.service_client,
        namespace=temporal.name,
        data_converter=data_converter(settings),
    )


def encrypted_with(values: Values, key_id: str) -> Values:
    """Return values with encryption by one key."""
    return merged(
        values, {"temporal": {"codec": {"secretName": SECRET, "encryptionKeyId": key_id}}}
    )


async def test_encrypted_payloads_survive_the_rotation_of_their_key(
    images: Images,
    namespace: Namespace,
    release: Release,
    values: FleetValues,
    temporal: TemporalNamespace,
    tmp_path: Path,
) -> None:
    """A run that begins with one key goes on and ends with the next, and the server sees nothing of either."""
    keys = {"2026-11": new_key()}
    await namespace.apply(secret(keys))
    await release.install(encrypted_with(values.one(), "2026-11"))
    run = await start(client_with(temporal, tmp_path, keys), steps=2, waits=True)

    keys["2026-12"] = new_key()
    await namespace.apply(secret(keys))
    await release.upgrade(encrypted_with(values.one(), "2026-12"))
    rotated = client_with(temporal, tmp_path, keys).get_workflow_handle(run.id)
    await rotated.signal("proceed")
    result = await rotated.result()

    kept = b"".join([e.SerializeToString() async for e in run.fetch_history_events()])
    assert result["workflow_builds"] == [images.first] * 2
    assert b'"workflow_builds"' not in kept
    assert b'"activity"' not in kept
    assert b"2026-11" in kept
    assert b"2026-12" in kept
