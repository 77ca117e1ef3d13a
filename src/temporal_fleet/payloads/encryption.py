"""Envelope encryption of payloads with AES-256-GCM.

Each process makes data keys of its own, which encrypt the payloads. A data key travels with each of them,
wrapped (RFC 3394) by a key of the key ring, so no key of the ring is ever used often enough to wear out:
GCM with random nonces must not encrypt more than 2**32 times with one key (NIST SP 800-38D, 8.3).

An encrypted payload is told by its metadata: ``encoding`` is ``binary/encrypted``, as in Temporal's own
samples, ``encryption-key-id`` names the key of the ring, ``encryption-data-key`` is the wrapped data key.
Its data is a nonce of 12 bytes and the whole payload, encrypted.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_wrap,
)
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec
from typing_extensions import override

from temporal_fleet.errors import DecryptionError
from temporal_fleet.payloads.format import DATA_KEY, ENCODING, KEY_ID, is_encrypted, key_id_of
from temporal_fleet.payloads.keys import KEY_BYTES, KeyRing

_NONCE_BYTES = 12
_PAYLOADS_PER_DATA_KEY = 2**20
"""Far below what the cipher allows, and few enough that one lost data key shows little."""
_REMEMBERED_DATA_KEYS = 1000
"""Data keys of other processes that are kept unwrapped: each is one restart of a worker or client."""


@dataclass
class _DataKey:
    key_id: str
    wrapped: bytes
    cipher: AESGCM
    left: int


class EncryptionCodec(PayloadCodec):
    """Encrypts payloads with one key and decrypts those of all keys; plain ones stay readable."""

    def __init__(
        self,
        keys: KeyRing,
        encryption_key: str | None,
        *,
        payloads_per_data_key: int = _PAYLOADS_PER_DATA_KEY,
    ) -> None:
        """Use the keys of a ring.

        Args:
            keys: The keys.
            encryption_key: ID of the key, one of the ring, that encrypts; None = payloads are sent as they are.
            payloads_per_data_key: How many payloads a data key encrypts before a new one is made.
        """
        self._keys = keys
        self._encryption_key = encryption_key
        self._payloads_per_data_key = payloads_per_data_key
        self._current: _DataKey | None = None
        self._ciphers: OrderedDict[tuple[str, bytes], AESGCM] = OrderedDict()

    @override
    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt payloads, unless there is no key to do it with."""
        if self._encryption_key is None:
            return list(payloads)
        return [self._encrypted(payload, self._encryption_key) for payload in payloads]

    @override
    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt what is encrypted and pass on what is not.

        Raises:
            DecryptionError: The key is not there, is another one under the same ID, or the payload was changed.
        """
        return [
            await self._decrypted(payload) if is_encrypted(payload) else payload
            for payload in payloads
        ]

    def _encrypted(self, payload: Payload, key_id: str) -> Payload:
        data_key = self._current
        if data_key is None or data_key.left == 0:
            data_key = self._current = self._new_data_key(key_id)
        data_key.left -= 1
        nonce = os.urandom(_NONCE_BYTES)
        sealed = data_key.cipher.encrypt(nonce, payload.SerializeToString(), None)
        return Payload(
            metadata={
                "encoding": ENCODING.encode(),
                KEY_ID: key_id.encode(),
                DATA_KEY: data_key.wrapped,
            },
            data=nonce + sealed,
        )

    def _new_data_key(self, key_id: str) -> _DataKey:
        key = self._keys.get(key_id)
        assert key is not None, "the key that encrypts was there at the start, and keys stay"
        data_key = os.urandom(KEY_BYTES)
        wrapped = aes_key_wrap(key, data_key)
        return _DataKey(key_id, wrapped, AESGCM(data_key), self._payloads_per_data_key)

    async def _decrypted(self, payload: Payload) -> Payload:
        key_id = key_id_of(payload)
        wrapped = payload.metadata.get(DATA_KEY)
        if wrapped is None:
            raise DecryptionError(
                f"a payload is encrypted with key {key_id!r}, but not by temporal-fleet: it has no "
                f"{DATA_KEY}. Read it with the codec that wrote it"
            )
        cipher = await self._cipher(key_id, wrapped)
        try:
            opened = cipher.decrypt(payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:], None)
        except (InvalidTag, ValueError) as error:
            raise DecryptionError(
                f"a payload that is encrypted with key {key_id!r} was changed or cut off"
            ) from error
        return Payload.FromString(opened)

    async def _cipher(self, key_id: str, wrapped: bytes) -> AESGCM:
        known = self._ciphers.get((key_id, wrapped))
        if known is not None:
            self._ciphers.move_to_end((key_id, wrapped))
            return known
        key = self._keys.get(key_id) or await self._keys.find(key_id)
        if key is None:
            there = ", ".join(self._keys.ids)
            raise DecryptionError(
                f"a payload is encrypted with key {key_id!r}, which is not in {self._keys.directory} "
                f"(there: {there}). Add it there; it is found without a restart"
            )
        try:
            cipher = AESGCM(aes_key_unwrap(key, wrapped))
        except InvalidUnwrap as error:
            raise DecryptionError(
                f"a payload is encrypted with another key {key_id!r} than that in "
                f"{self._keys.directory}. Put the old key back and add the new one under another ID"
            ) from error
        self._ciphers[key_id, wrapped] = cipher
        if len(self._ciphers) > _REMEMBERED_DATA_KEYS:
            self._ciphers.popitem(last=False)
        return cipher
