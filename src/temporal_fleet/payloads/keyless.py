"""The codec of those who have no keys: it refuses encrypted payloads, before anything is lost.

Left to the payload converter, an encrypted signal would be logged and dropped (SDK 1.35), and a workflow
would go on without it. An error of the codec fails the whole workflow task, which is tried again until the
worker has the key.
"""

from __future__ import annotations

from collections.abc import Sequence

from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec
from typing_extensions import override

from temporal_fleet.errors import DecryptionError
from temporal_fleet.payloads.format import is_encrypted, key_id_of


class KeylessCodec(PayloadCodec):
    """Passes payloads on as they are, except encrypted ones, which it says are encrypted."""

    @override
    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return the payloads as they are."""
        return list(payloads)

    @override
    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return the payloads as they are.

        Raises:
            DecryptionError: One of them is encrypted.
        """
        for payload in payloads:
            if is_encrypted(payload):
                raise DecryptionError(
                    f"a payload is encrypted with key {key_id_of(payload)!r}, and no keys are given. "
                    "Set FLEET_CODEC_KEYS_DIRECTORY to a directory that has it"
                )
        return list(payloads)
