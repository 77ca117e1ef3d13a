"""Renew or check ``requirements.lock``.

The lock holds names, releases and hashes only, so it is the same whichever index serves the packages;
``uv.lock`` would write addresses into the repository.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"


def compile_lock(output: Path, *, upgrade: bool) -> None:
    """Resolve the root project and every workload together into *output*."""
    projects = [ROOT / "pyproject.toml", *sorted((ROOT / "workloads").glob("*/pyproject.toml"))]
    own = [tomllib.loads(path.read_text())["project"]["name"] for path in projects]
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"]
    command += ["--generate-hashes", "--no-header", "--no-emit-index-url", "--all-extras"]
    command += ["--group", "dev", "--python-version", "3.11"]
    for name in own:
        command += ["--no-emit-package", name]
    if upgrade:
        command.append("--upgrade")
    command += [str(path.relative_to(ROOT)) for path in projects]
    subprocess.run([*command, "-o", str(output)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Write the lock, or with ``--check`` compare it with what the projects ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when the lock is not fresh")
    parser.add_argument("--upgrade", action="store_true", help="take the newest releases")
    arguments = parser.parse_args()
    if not arguments.check:
        compile_lock(LOCK, upgrade=arguments.upgrade)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / LOCK.name
        shutil.copy(LOCK, fresh)
        compile_lock(fresh, upgrade=False)
        if fresh.read_text() != LOCK.read_text():
            print("requirements.lock is not fresh: a pyproject.toml changed. Run: make lock")
            return 1
    print("requirements.lock is fresh")
    return 0


if __name__ == "__main__":
    sys.exit(main())
