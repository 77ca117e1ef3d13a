"""Check that every place which tells the release of temporal-fleet tells the same one.

The root project, the package's ``__version__``, every workload and the chart (``version`` and ``appVersion``)
carry one number. The changelog must know it, or be collecting entries for it under *Unreleased*; with
``--release`` it must know it, as its newest release.

Exit codes: 0 = all agree, 1 = they differ; every difference is printed.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHART = "deploy/helm/temporal-fleet/Chart.yaml"
PACKAGE = "src/temporal_fleet/__init__.py"

_NUMBER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_HEADING = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<date>\S+))?", re.MULTILINE)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def main() -> int:
    """Compare all places; prints what differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--release",
        metavar="TAG",
        help="the tag that is being released, e.g. v1.4.0; the changelog must have a dated section for it",
    )
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    release = _release_of(arguments.root)
    problems = [
        *_differing_places(arguments.root, release),
        *_changelog_problems(arguments.root, release, released=arguments.release is not None),
    ]
    if arguments.release not in (None, f"v{release}"):
        problems.append(
            f"the tag is {arguments.release!r}, pyproject.toml says {release!r}. "
            f"Tag v{release}, or change the number first"
        )
    for problem in problems:
        print(problem)
    if not problems:
        print(f"all places say {release}")
    return 1 if problems else 0


def _release_of(root: Path) -> str:
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def _differing_places(root: Path, release: str) -> Iterator[str]:
    if not _NUMBER.fullmatch(release):
        yield f"pyproject.toml: {release!r} is no release number. Use MAJOR.MINOR.PATCH"
    for place, found in _places(root):
        if found != release:
            yield f"{place} says {found!r}, pyproject.toml says {release!r}. Make them the same"


def _places(root: Path) -> Iterator[tuple[str, str | None]]:
    """Yield every place beside the root project, with what it says; None when it says nothing."""
    package = (root / PACKAGE).read_text()
    yield f"{PACKAGE} (__version__)", _first(r'^__version__ = "([^"]*)"', package)
    for path in sorted(root.glob("workloads/*/pyproject.toml")):
        project = tomllib.loads(path.read_text())["project"]
        yield path.relative_to(root).as_posix(), project.get("version")
    chart = (root / CHART).read_text()
    for key in ("version", "appVersion"):
        yield f"{CHART} ({key})", _first(rf"^{key}:[ \t]*[\"']?([^\"'\s#]+)", chart)


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else None


def _changelog_problems(root: Path, release: str, *, released: bool) -> Iterator[str]:
    found = list(_HEADING.finditer((root / "CHANGELOG.md").read_text()))
    headings = {heading["name"]: heading["date"] for heading in found}
    if len(headings) < len(found):
        twice = Counter(heading["name"] for heading in found).most_common(1)[0][0]
        yield f"CHANGELOG.md has more than one section {twice!r}. Join them"
    newest = next((name for name in headings if name != "Unreleased"), None)
    if release not in headings:
        if released:
            yield (
                f"CHANGELOG.md has no section for {release!r}. "
                f"Give the entries under Unreleased the heading: ## [{release}] - YYYY-MM-DD"
            )
        elif "Unreleased" not in headings:
            yield (
                f"CHANGELOG.md has neither a section for {release!r} nor one for what is not released. "
                "Add the heading: ## [Unreleased]"
            )
        if newest and _as_numbers(newest) >= _as_numbers(release):
            yield f"CHANGELOG.md already has {newest!r}, pyproject.toml says {release!r}. Raise that number"
        return
    if newest != release:
        yield f"CHANGELOG.md has {newest!r} above {release!r}, which is the number in pyproject.toml"
    if not _DATE.fullmatch(headings[release] or ""):
        yield f"CHANGELOG.md: the heading of {release!r} has no date. Write: ## [{release}] - YYYY-MM-DD"


def _as_numbers(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release))


if __name__ == "__main__":
    sys.exit(main())
