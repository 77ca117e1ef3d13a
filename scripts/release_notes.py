"""Print the notes of one release: its section of the changelog, as Markdown.

Exit codes: 0 = printed, 1 = the changelog has no such section, or nothing in it.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).resolve().parent.parent / "CHANGELOG.md"

_SECTION = re.compile(r"^## \[([^\]]+)\][^\n]*\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_LINK_TARGET = re.compile(r"^\[[^\]]+\]: \S+$\n?", re.MULTILINE)


def main() -> int:
    """Print the section; links to places of the repository stay as they are."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("release", help="tag or number of the release, e.g. v1.4.0; or Unreleased")
    parser.add_argument("--changelog", type=Path, default=CHANGELOG, help="default: CHANGELOG.md")
    arguments = parser.parse_args()
    release = arguments.release.removeprefix("v")
    text = arguments.changelog.read_text()
    sections = {found[1]: found[2] for found in _SECTION.finditer(text)}
    if release not in sections:
        known = ", ".join(sections) or "none"
        print(
            f"{arguments.changelog.name} has no section {release!r}; it has: {known}",
            file=sys.stderr,
        )
        return 1
    notes = _LINK_TARGET.sub("", sections[release]).strip()
    if not notes:
        print(f"{arguments.changelog.name}: the section {release!r} is empty", file=sys.stderr)
        return 1
    print(notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
