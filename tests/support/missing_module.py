"""Python code that is run where a module is not installed."""

from __future__ import annotations

import subprocess
import sys

_MISSING = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""


def output_without(module: str, code: str) -> str:
    """Run code in a process in which a module and all below it cannot be imported; return what it prints."""
    whole = _MISSING.format(module=module) + code
    return subprocess.run(
        [sys.executable, "-c", whole], capture_output=True, text=True, check=True
    ).stdout
