"""List the workloads of this repository: one for each image that is built and published.

They are the members of the uv workspace (``[tool.uv.workspace]``) that offer an entry point in the group
``temporal_fleet.workloads``; a new one needs no change of any workflow or Makefile.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GROUP = "temporal_fleet.workloads"


def main() -> int:
    """Print the names of the workloads' folders, which are also the names of the images."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--output",
        choices=("lines", "json"),
        default="lines",
        help="a name on each line, or one JSON list, as a matrix of GitHub Actions takes it",
    )
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = discover(arguments.root)
    if not names:
        print(f"no workspace member offers an entry point in {GROUP!r}", file=sys.stderr)
        return 1
    print(json.dumps(names) if arguments.output == "json" else "\n".join(names))
    return 0


def discover(root: Path) -> list[str]:
    """Return the folder names of the workspace members that are workloads, in alphabetical order."""
    patterns = _read(root)["tool"]["uv"]["workspace"]["members"]
    members = {path.parent for each in patterns for path in root.glob(f"{each}/pyproject.toml")}
    return sorted(
        member.name
        for member in members
        if GROUP in _read(member)["project"].get("entry-points", {})
    )


def _read(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


if __name__ == "__main__":
    sys.exit(main())
