"""The payload converter of those who have no keys: it tells encrypted payloads from unknown ones."""

from __future__ import annotations

from typing import Any, NoReturn

from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import CompositePayloadConverter, EncodingPayloadConverter
from typing_extensions import override

from temporal_fleet.errors import DecryptionError
from temporal_fleet.payloads.format import ENCODING, KEY_ID


class KeylessPayloadConverter(CompositePayloadConverter):
    """JSON with pydantic models, and a plain word about payloads that need a key."""

    def __init__(self) -> None:
        super().__init__(*PydanticPayloadConverter().converters.values(), _EncryptedPayloads())


class _EncryptedPayloads(EncodingPayloadConverter):
    @property
    @override
    def encoding(self) -> str:
        return ENCODING

    @override
    def to_payload(self, value: Any) -> None:
        """Leave every value to the other converters."""

    @override
    def from_payload(self, payload: Payload, type_hint: type | None = None) -> NoReturn:
        key_id = payload.metadata.get(KEY_ID, b"").decode(errors="replace")
        raise DecryptionError(
            f"a payload is encrypted with key {key_id!r}, and no keys are given. "
            "Set FLEET_CODEC_KEYS_DIRECTORY to a directory that has it"
        )
