"""Keeps the code of a worker as it was when it started, whatever happens to its files.

The SDK's sandbox imports a workflow's module anew for every run. Without this, a worker that goes on
because the new code does not start would run half of that new code, or none at all.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType

from typing_extensions import override


def keep_sources() -> None:
    """Answer every import of a module from now on with what its first import found."""
    sys.meta_path.insert(0, _FirstFound())


class _FirstFound(MetaPathFinder):
    def __init__(self) -> None:
        self._specs: dict[str, ModuleSpec] = {}

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load a module; None when there is none yet."""
        if fullname not in self._specs:
            others = (each for each in sys.meta_path if each is not self)
            specs = (each.find_spec(fullname, path, target) for each in others)
            found = next((spec for spec in specs if spec is not None), None)
            if found is None:
                return None
            if type(found.loader) is SourceFileLoader:
                found.loader = _FirstRead(fullname, found.loader.path)
            self._specs[fullname] = found
        # A copy, as the import system notes in it that a module is being imported.
        return copy.copy(self._specs[fullname])


class _FirstRead(SourceFileLoader):
    _code: CodeType | None = None

    @override
    def get_code(self, fullname: str) -> CodeType | None:
        """Return the code that was read first."""
        if self._code is None:
            self._code = super().get_code(fullname)
        return self._code
