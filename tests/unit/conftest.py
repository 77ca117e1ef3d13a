"""Fixtures of the unit tests."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


class Site:
    """A directory of installed distributions, made of real files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, source: str) -> Path:
        """Write one file; folders on the way become packages."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = target.parent
        while folder != self.root:
            (folder / "__init__.py").touch()
            folder = folder.parent
        target.write_text(textwrap.dedent(source), encoding="utf-8")
        importlib.invalidate_caches()
        return target

    def offer(self, distribution: str, release: str = "1.2.3", **entry_points: str) -> None:
        """Write a distribution's metadata with its entry points in ``temporal_fleet.workloads``."""
        info = self.root / f"{distribution.replace('-', '_')}-{release}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {release}\n", encoding="utf-8"
        )
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        (info / "entry_points.txt").write_text(
            "\n".join(["[temporal_fleet.workloads]", *lines, ""]), encoding="utf-8"
        )
        importlib.invalidate_caches()

    def module(self, name: str, source: str) -> ModuleType:
        """Write one module and import it."""
        self.write(f"{name.replace('.', '/')}.py", source)
        return importlib.import_module(name)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site directory that is first on the import path; its modules are forgotten afterwards."""
    root = tmp_path / "site"
    root.mkdir()
    monkeypatch.syspath_prepend(root)
    yield Site(root)
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None)
        if origin and Path(origin).is_relative_to(root):
            del sys.modules[name]
