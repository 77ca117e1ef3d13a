"""Print the build ID of what is checked out: ``<release>-<12 hex digits>``.

It is Temporal's build ID, the tag and a label of every image. The digits are those of the commit; where the
files that images are made of differ from it, or where there is no git, they are a digest of these files: what
runs differently never has the same build ID.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

SOURCES = ("Dockerfile", "LICENSE", "README.md", "locks", "pyproject.toml", "src", "workloads")
"""What the images are made of, as ``.dockerignore`` lets it through."""

_NOT_IN_IMAGES = re.compile(
    r"(^|/)(\.[^/]*|__pycache__|[^/]*\.egg-info)(/|$)|^workloads/[^/]+/tests/"
)


def main() -> int:
    """Print the build ID."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    root = parser.parse_args().root
    release = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    print(build_id(release, clean_commit(root) or content_digest(root, source_files(root))))
    return 0


def build_id(release: str, digits: str) -> str:
    """Return the build ID of a release and a commit or digest.

    Args:
        release: Release number of the project, such as ``1.4.0`` or ``1.4.0+local``.
        digits: At least 12 hex digits.

    Raises:
        ValueError: When a tag or a Kubernetes label could not hold the result.
    """
    # A tag may hold no "+", which separates a local part in Python's numbers.
    made = f"{release.replace('+', '-')}-{digits[:12]}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", made):
        raise ValueError(
            f"build ID {made!r} fits no label: at most 63 letters, digits, '.', '_', '-'"
        )
    return made


def clean_commit(root: Path) -> str | None:
    """Return the commit that is checked out; None without git or where a source differs from it."""
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    changes = _git(
        root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *SOURCES
    )
    if commit is None or changes is None:
        return None
    # Two letters and a blank come before the path.
    changed = [line[3:] for line in changes.split("\0") if line]
    return None if any(not _NOT_IN_IMAGES.search(path) for path in changed) else commit.strip()


def source_files(root: Path) -> list[Path]:
    """Return the files that the images are made of, relative to *root*, in order."""
    found = (path for name in SOURCES for path in _below(root / name))
    relative = (path.relative_to(root) for path in found)
    return sorted(path for path in relative if not _NOT_IN_IMAGES.search(path.as_posix()))


def content_digest(root: Path, files: Iterable[Path]) -> str:
    """Return the SHA-256 digest of names and contents of *files*, in hex digits."""
    digest = hashlib.sha256()
    for path in files:
        content = hashlib.sha256((root / path).read_bytes()).hexdigest()
        digest.update(f"{content}  {path.as_posix()}\n".encode())
    return digest.hexdigest()


def _below(path: Path) -> Iterable[Path]:
    return [path] if path.is_file() else (each for each in path.rglob("*") if each.is_file())


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, check=False, capture_output=True, text=True
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
