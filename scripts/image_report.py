"""Report how large images are and how fast their workers start.

Sizes are those of the layers compressed with gzip, as a registry keeps and a node pulls them; *added* is what
an image has beyond its base image, which nodes usually hold already. The start is measured against an embedded
Temporal server on this machine, from the command that starts the container until ``/readyz`` answers 200; and
once more without bytecode, as it would be if the image had none.

Exit codes: 0 = reported, 1 = an image adds more than ``--max-added-mb``, or an engine or a container failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from temporal_fleet.leaving import run_program
from temporal_fleet.output import console, table
from temporal_fleet.testing import dev_server, free_port

MB = 1_000_000
READY_WITHIN = 120.0
"""Seconds after which a container that is not ready has failed."""
WORKER_LABEL = '{{index .Config.Labels "temporal.io/build-id"}}'
"""Images without this label hold no worker that could be started."""
CPU_SECONDS = """
from pathlib import Path
group = Path("/sys/fs/cgroup")
if (group / "cpu.stat").exists():
    print(int((group / "cpu.stat").read_text().split()[1]) / 1e6)
else:
    print(int((group / "cpuacct/cpuacct.usage").read_text()) / 1e9)
"""
"""Run in a container, prints what its control group has used, of version 2 or 1."""
NO_BYTECODE = "PYTHONPYCACHEPREFIX=/nowhere"
"""Makes Python look for bytecode where there is none and none can be written."""


@dataclass(frozen=True)
class Start:
    """How long a worker took to become ready; medians of several starts."""

    seconds: float
    """From the engine's command until ``/readyz`` answered 200."""
    cpu_seconds: float
    """CPU that the container used until then; hardly depends on what else the machine does."""


@dataclass(frozen=True)
class Row:
    """What is reported of one image; no starts of an image without a worker."""

    image: str
    base_mb: float
    added_mb: float
    start: Start | None
    start_without_bytecode: Start | None


def main() -> int:
    """Measure and print."""
    arguments = _parse()
    try:
        rows = asyncio.run(_measure(arguments))
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(error.cmd)} failed: {error.stderr.strip()}", file=sys.stderr)
        return 1
    if arguments.output == "json":
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _print_table(rows)
    too_large = [row for row in rows if row.added_mb > arguments.max_added_mb]
    for row in too_large:
        print(
            f"{row.image} adds {row.added_mb:.1f} MB to its base image, more than the "
            f"{arguments.max_added_mb:g} MB of --max-added-mb",
            file=sys.stderr,
        )
    return 1 if too_large else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", nargs="+", help="images that the engine holds")
    parser.add_argument("--engine", default="docker", help="docker or podman")
    parser.add_argument("--base", default="python:3.13-slim-bookworm", help="their base image")
    parser.add_argument("--max-added-mb", type=float, default=90, help="fail beyond this")
    parser.add_argument("--starts", type=int, default=5, help="starts to measure; 0 = none")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    return parser.parse_args()


async def _measure(arguments: argparse.Namespace) -> list[Row]:
    engine, sizes = arguments.engine, LayerSizes(arguments.engine)
    if not _run(engine, "image", "ls", "--quiet", arguments.base):
        _run(engine, "pull", arguments.base)
    base = sizes.of(arguments.base)
    rows = []
    async with AsyncExitStack() as stack:
        with _silent_output():
            server = await stack.enter_async_context(dev_server())
        address = server.client.service_client.config.target_host
        for image in arguments.images:
            layers = sizes.of(image)
            shared = sum(size for layer, size in layers.items() if layer in base)
            seconds = [
                _median_start(engine, image, address, arguments.starts, variables)
                for variables in ([], [NO_BYTECODE])
            ]
            rows.append(Row(image, shared / MB, (sum(layers.values()) - shared) / MB, *seconds))
    return rows


@contextmanager
def _silent_output() -> Iterator[None]:
    """Keep what child processes print out of the report: the server announces itself."""
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


class LayerSizes:
    """Compressed sizes of layers; each layer is compressed once, however many images have it."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._known: dict[str, int] = {}

    def of(self, image: str) -> dict[str, int]:
        """Return the compressed size of each layer of *image* by the digest of its content."""
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder, "image.tar")
            _run(self._engine, "save", "--output", str(archive), image)
            with tarfile.open(archive) as tar:
                (manifest,) = json.load(_member(tar, "manifest.json"))
                digests = json.load(_member(tar, manifest["Config"]))["rootfs"]["diff_ids"]
                for digest, name in zip(digests, manifest["Layers"], strict=True):
                    if digest not in self._known:
                        self._known[digest] = _compressed_size(_member(tar, name))
        return {digest: self._known[digest] for digest in digests}


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    file = tar.extractfile(name)
    assert file is not None, f"{name} is no file"
    return file


def _compressed_size(layer: IO[bytes]) -> int:
    head = layer.read(2)
    layer.seek(0)
    if head == b"\x1f\x8b":
        return layer.seek(0, 2)
    packer, size = zlib.compressobj(wbits=31), 0
    while block := layer.read(1 << 20):
        size += len(packer.compress(block))
    return size + len(packer.flush())


def _median_start(
    engine: str, image: str, address: str, starts: int, variables: Sequence[str]
) -> Start | None:
    label = _run(engine, "image", "inspect", "--format", WORKER_LABEL, image)
    if starts == 0 or not label.strip():
        return None
    measured = [_start(engine, image, address, variables) for _ in range(starts)]
    return Start(
        seconds=statistics.median(each.seconds for each in measured),
        cpu_seconds=statistics.median(each.cpu_seconds for each in measured),
    )


def _start(engine: str, image: str, address: str, variables: Sequence[str]) -> Start:
    port = free_port()
    environment = [f"TEMPORAL_ADDRESS={address}", f"FLEET_HEALTH_PORT={port}", *variables]
    began = time.perf_counter()
    container = _run(
        *(engine, "run", "--detach", "--network=host", "--read-only", "--tmpfs=/tmp:mode=1777"),
        *(f"--env={each}" for each in environment),
        image,
    ).strip()
    try:
        while not _is_ready(port):
            if time.perf_counter() - began > READY_WITHIN:
                subprocess.run([engine, "logs", container], check=True)
                raise SystemExit(f"{image} was not ready within {READY_WITHIN:g} s")
            time.sleep(0.005)
        seconds = time.perf_counter() - began
        return Start(seconds, float(_run(engine, "exec", container, "python", "-c", CPU_SECONDS)))
    finally:
        # It may have ended by itself; else it would be asked to drain first.
        subprocess.run([engine, "kill", container], check=False, capture_output=True)
        _run(engine, "rm", "--force", container)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
            return True
    except OSError:
        # Nothing listens yet, it answers 503, or it is too busy with starting.
        return False


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _print_table(rows: Sequence[Row]) -> None:
    def cells(start: Start | None) -> tuple[str | None, str | None]:
        return (
            (None, None)
            if start is None
            else (f"{start.seconds:.2f} s", f"{start.cpu_seconds:.2f} s")
        )

    columns = ("IMAGE", "BASE", "ADDED", "READY AFTER", "CPU", "WITHOUT BYTECODE", "CPU")
    lines = [
        (
            row.image,
            f"{row.base_mb:.1f} MB",
            f"{row.added_mb:.1f} MB",
            *cells(row.start),
            *cells(row.start_without_bytecode),
        )
        for row in rows
    ]
    console().print(table(columns, lines, right=columns[1:]))


if __name__ == "__main__":
    run_program(main)
