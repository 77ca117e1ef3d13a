"""By which metadata encrypted payloads are known."""

from __future__ import annotations

ENCODING = "binary/encrypted"
"""Value of ``encoding``, as in Temporal's own samples."""
KEY_ID = "encryption-key-id"
"""Holds the ID of the key that wraps the data key."""
DATA_KEY = "encryption-data-key"
"""Holds the data key, wrapped."""
