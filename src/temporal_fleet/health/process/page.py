"""Memory that the worker writes and its health process reads, without either waiting for the other.

Layout, native byte order: heartbeat (double), sequence number (uint64), then two slots of a length
(uint32) and that many bytes. The writer fills the slot that is not in use and then publishes it by
adding one to the sequence number, so a writer that is stopped half-way leaves the last complete
state readable.
"""

from __future__ import annotations

import mmap
import os
import struct
import time

_HEARTBEAT = struct.Struct("=d")
_SEQUENCE = struct.Struct("=Q")
_LENGTH = struct.Struct("=I")
_SEQUENCE_AT = 8
_SLOTS_AT = 64
_SLOT_SIZE = 256 * 1024
PAGE_SIZE = _SLOTS_AT + 2 * _SLOT_SIZE
"""Bytes of the mapping; memory is used only for what is written."""


def create_page_file() -> int:
    """Return the descriptor of an anonymous file for a :class:`SharedPage`; the caller closes it.

    On Linux it lives in memory only, so it needs no writable directory.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("fleet-health", os.MFD_CLOEXEC)
    else:
        import tempfile  # costs as much as everything else here together

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, PAGE_SIZE)
    return descriptor


class SharedPage:
    """The shared memory behind a descriptor: one writing process, any number of reading ones.

    Calls of :meth:`write` must not overlap; :meth:`beat` may be called at any time.
    """

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, PAGE_SIZE)

    def beat(self) -> None:
        """Say that the worker's event loop is alive now."""
        # One aligned store of eight bytes: a reader sees the old or the new value.
        _HEARTBEAT.pack_into(self._memory, 0, time.monotonic())

    def heartbeat_age(self) -> float:
        """Return the seconds since the last :meth:`beat`, of whichever process."""
        (beat,) = _HEARTBEAT.unpack_from(self._memory, 0)
        return max(0.0, time.monotonic() - float(beat))

    def write(self, document: bytes) -> None:
        """Publish *document* in place of the last one.

        Raises:
            ValueError: It is larger than a slot.
        """
        if len(document) > _SLOT_SIZE - _LENGTH.size:
            raise ValueError(
                f"health state of {len(document)} bytes does not fit in {_SLOT_SIZE}; "
                "use fewer health checks or shorter reasons"
            )
        sequence = self._sequence() + 1
        at = self._slot_at(sequence)
        _LENGTH.pack_into(self._memory, at, len(document))
        self._memory[at + _LENGTH.size : at + _LENGTH.size + len(document)] = document
        _SEQUENCE.pack_into(self._memory, _SEQUENCE_AT, sequence)

    def read(self) -> bytes:
        """Return the document that was published last."""
        while True:
            sequence = self._sequence()
            at = self._slot_at(sequence)
            (length,) = _LENGTH.unpack_from(self._memory, at)
            document = self._memory[at + _LENGTH.size : at + _LENGTH.size + length]
            # An unchanged number means that the writer was at most busy with the other slot.
            if self._sequence() == sequence:
                return document

    def close(self) -> None:
        """Unmap the memory."""
        self._memory.close()

    def _sequence(self) -> int:
        (sequence,) = _SEQUENCE.unpack_from(self._memory, _SEQUENCE_AT)
        return int(sequence)

    def _slot_at(self, sequence: int) -> int:
        return _SLOTS_AT + (sequence & 1) * _SLOT_SIZE
