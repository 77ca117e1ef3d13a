"""Splits YAML into tokens as Helm does where ruamel.yaml is stricter."""

from __future__ import annotations

from ruamel.yaml.scanner import Scanner
from typing_extensions import override


class HelmScanner(Scanner):
    """A scanner that takes a tab between tokens, such as one before a comment, for a space.

    Where a key may begin, a tab would be indentation: it is refused there, by Helm as well.
    """

    @override
    def scan_to_next_token(self) -> None:
        """Skip what stands before the next token."""
        super().scan_to_next_token()
        while self.reader.peek() == "\t" and not self.allow_simple_key:
            self.reader.forward()
            super().scan_to_next_token()
