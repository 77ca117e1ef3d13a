"""How payloads are encrypted before they leave the process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from temporal_fleet.settings.rules import BrokenRule, Group


class CodecSettings(Group):
    """Encryption of payloads: arguments, results, heartbeats, memos and messages of failures."""

    keys_directory: Path | None = None
    """Directory of the keys, one file each: its name is the key's ID, its content 32 random bytes
    in base64 (`openssl rand -base64 32`). A key that is added later is found without a restart.
    None = payloads are not encrypted, and encrypted ones cannot be read."""
    encryption_key_id: Annotated[str, Field(min_length=1)] | None = None
    """ID of the key that encrypts; the other keys decrypt. None = payloads are decrypted only, which
    is the first step when encryption is switched on: every worker has to read what some write."""

    @override
    def broken_rules(self) -> Iterator[BrokenRule]:
        """Yield a key without the directory it is in."""
        if self.encryption_key_id is not None and self.keys_directory is None:
            yield BrokenRule(
                "codec.encryption_key_id",
                f"is {self.encryption_key_id}, but <codec.keys_directory> is not set",
                "Set it to the directory that holds the key.",
            )
