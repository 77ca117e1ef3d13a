"""The one data converter of workers, commands, tests and replay: what one writes, the others read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from temporal_fleet.errors import Problem, SettingsError
from temporal_fleet.payloads.keyless import KeylessCodec
from temporal_fleet.payloads.keys import KeyRing

if TYPE_CHECKING:
    from temporalio.converter import DataConverter

    from temporal_fleet.settings import CodecSettings

log = structlog.get_logger(__name__)


def data_converter(settings: CodecSettings | None = None) -> DataConverter:
    """Return the converter of every workload: JSON with pydantic models, encrypted where keys are given.

    Without a directory of keys no cryptography is imported, and reading an encrypted payload raises
    ``DecryptionError``. While a key encrypts, the messages and stack
    traces of failures are encrypted like everything else.

    Args:
        settings: Where the keys are, and which of them encrypts; None = there are no keys.

    Raises:
        SettingsError: The keys cannot be used, the one that encrypts is not there, or the library is missing.
    """
    from temporalio.contrib.pydantic import pydantic_data_converter as plain

    if settings is None or settings.keys_directory is None:
        return replace(plain, payload_codec=KeylessCodec())
    try:
        from temporal_fleet.payloads.encryption import EncryptionCodec
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "cryptography":
            raise
        raise SettingsError([_not_installed(settings)]) from error
    from temporalio.converter import DefaultFailureConverterWithEncodedAttributes

    keys = KeyRing(settings.keys_directory)
    encryption_key = settings.encryption_key_id
    if encryption_key is not None and keys.get(encryption_key) is None:
        raise SettingsError([_not_there(encryption_key, keys)])
    codec = EncryptionCodec(keys, encryption_key)
    log.info("payload keys read", encryption_key_id=encryption_key, key_ids=keys.ids)
    if encryption_key is None:
        return replace(plain, payload_codec=codec)
    return replace(
        plain,
        payload_codec=codec,
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


def _not_installed(settings: CodecSettings) -> Problem:
    return Problem(
        "FLEET_CODEC_KEYS_DIRECTORY",
        f"is {settings.keys_directory}, but the package cryptography is not installed",
        cure="Run `pip install temporal-fleet[encryption]`; images have it with EXTRAS=encryption.",
    )


def _not_there(key_id: str, keys: KeyRing) -> Problem:
    return Problem(
        "FLEET_CODEC_ENCRYPTION_KEY_ID",
        f"is {key_id}, but {keys.directory} holds only {', '.join(keys.ids)}",
        cure="Add the key there first, and give it time to reach every worker.",
    )
