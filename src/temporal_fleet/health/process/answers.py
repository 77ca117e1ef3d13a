"""Form of the worker's answers to the health process, which asks for metrics by number.

Every question gets an answer, also when there are no metrics to give, so that the one who asked need
not guess. Native byte order: both ends are one machine.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = struct.Struct("=Q?I")


def pack_answer(question: int, text: bytes | None) -> bytes:
    """Return the answer to *question*; None = the metrics could not be rendered."""
    body = text or b""
    return _HEAD.pack(question, text is not None, len(body)) + body


def take_answers(received: bytearray) -> Iterator[tuple[int, bytes | None]]:
    """Remove all complete answers from what was *received*, and yield question and text of each."""
    while len(received) >= _HEAD.size:
        question, rendered, length = _HEAD.unpack_from(received)
        end = _HEAD.size + length
        if len(received) < end:
            return
        text = bytes(received[_HEAD.size : end]) if rendered else None
        del received[:end]
        yield question, text
