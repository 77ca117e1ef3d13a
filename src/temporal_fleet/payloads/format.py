"""By which metadata encrypted payloads are known."""

from __future__ import annotations

from temporalio.api.common.v1 import Payload

ENCODING = "binary/encrypted"
"""Value of ``encoding``, as in Temporal's own samples."""
KEY_ID = "encryption-key-id"
"""Holds the ID of the key that wraps the data key."""
DATA_KEY = "encryption-data-key"
"""Holds the data key, wrapped."""


def is_encrypted(payload: Payload) -> bool:
    """Whether a payload says that it is encrypted."""
    return payload.metadata.get("encoding") == ENCODING.encode()


def key_id_of(payload: Payload) -> str:
    """Return the ID of the key that an encrypted payload needs; empty when it names none."""
    return payload.metadata.get(KEY_ID, b"").decode(errors="replace")
