"""What `fleet dev` watches: the source of a workload, and of the local libraries that it requires."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from temporal_fleet.dev.sources import (
    assign,
    modules_by_distribution,
    source_directory,
    sources_of,
    third_party_modules,
    unwatched,
)
from temporal_fleet.workload import discover


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on the path in which distributions can be written; what it imported is forgotten."""
    directory = tmp_path / "site"
    directory.mkdir()
    monkeypatch.syspath_prepend(directory)
    known = set(sys.modules)
    yield directory
    for name in set(sys.modules) - known:
        del sys.modules[name]


def write(
    site: Path, name: str, module: str, *, requires: str = "", files: dict[str, str] | None = None
) -> None:
    """Write a distribution of one empty module, which is a workload of that name."""
    path = site.joinpath(*module.split("."))
    path.mkdir(parents=True)
    (path / "__init__.py").touch()
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    needed = f"Requires-Dist: {requires}\n" if requires else ""
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needed}")
    (info / "entry_points.txt").write_text(
        f"[temporal_fleet.workloads]\n{name} = {module}:workload\n"
    )
    for file, text in (files or {}).items():
        (info / file).write_text(text)


def watched(name: str) -> list[Path]:
    """Return what is watched for an installed workload."""
    return sources_of(entry(name), modules_by_distribution())


def entry(name: str) -> EntryPoint:
    """Return the entry point of an installed workload."""
    return discover()[name]


def test_source_directory_in_a_namespace_is_that_of_its_own_package(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two distributions that share a namespace each have their own source."""
    write(site, "billing", "acme_namespace.billing")
    write(tmp_path / "other", "orders-x", "acme_namespace.orders")
    monkeypatch.syspath_prepend(tmp_path / "other")

    assert source_directory("acme_namespace.billing") == site / "acme_namespace/billing"
    assert source_directory("acme_namespace.orders") == tmp_path / "other/acme_namespace/orders"


def test_sources_of_a_workload_hold_local_libraries_that_it_needs(site: Path) -> None:
    """A local library is watched though only another library requires it, and is never preloaded."""
    write(site, "greeting", "greeting_code", requires="wording")
    write(
        site,
        "wording",
        "wording_code",
        requires="spelling",
        files={"top_level.txt": "wording_code"},
    )
    write(site, "spelling", "spelling")
    library = {site / "wording_code", site / "spelling"}

    assert watched("greeting")[0] == site / "greeting_code"
    assert set(watched("greeting")[1:]) == library
    assert third_party_modules([entry("greeting")]) == []


def test_sources_of_an_editable_library_without_modules_are_where_it_points(
    site: Path, tmp_path: Path
) -> None:
    """An editable installation that names only a directory is watched there."""
    (tmp_path / "library").mkdir()
    (site / "wording.pth").write_text(f"{tmp_path / 'library'}\n")
    write(site, "greeting", "greeting_code", requires="wording>=1")
    write(site, "wording", "unrelated", files={"RECORD": "wording.pth,,\n"})

    assert watched("greeting") == [site / "greeting_code", tmp_path / "library"]


def test_unwatched_for_copies_of_local_directories_tells_how_to_install_them(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who edits a source that was installed as a copy is told why nothing happens."""
    monkeypatch.setattr("site.USER_SITE", str(site))
    copied = '{"url": "file:///my/wording", "dir_info": {}}'
    write(site, "greeting", "greeting_code", requires="wording")
    write(site, "wording", "wording", files={"direct_url.json": copied})

    said = unwatched(entry("greeting"))

    assert [text.partition(" ")[0] for text in said] == ["greeting", "wording"]
    assert said[1].endswith("pip install -e /my/wording")


def test_assign_shows_whose_file_it_is_and_leaves_out_hidden_directories(tmp_path: Path) -> None:
    """Files of a workload are shown as in its package, others with their directory."""
    own, library = tmp_path / "own", tmp_path / "library"
    files = [own / "work.py", library / "text.py", library / ".fleet" / "temporal.db"]

    assert assign(files, {"greeting": [own, library], "other": [own]}) == {
        "greeting": [Path("library/text.py"), Path("work.py")],
        "other": [Path("work.py")],
    }
