"""Build the images of the cluster tests and load them into the cluster.

The same sources give the same tags, so nothing is built twice and no tag ever names two images. Settings, all
in the environment:

- ``E2E_ENGINE``: ``podman`` or ``docker``; default: whichever is installed.
- ``E2E_BUILD_FLAGS``: further arguments of its ``build``.
- ``E2E_LOAD_IMAGE``: a command that loads the images whose names are appended to it, such as
  ``kind load docker-image``. Not set: nothing is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = ROOT / ".cache" / "e2e" / "images.json"
REGISTRY = "localhost"
"""Looks like a registry to engines and clusters, so that none of them asks another one for the image."""

SOURCES = ("Dockerfile", "LICENSE", "README.md", "pyproject.toml", "locks", "src")
E2E_WORKLOAD = "tests/e2e/workload"


@dataclass(frozen=True)
class Image:
    """One image to build."""

    name: str
    tag: str
    arguments: tuple[str, ...]
    """Further arguments of the engine's ``build``."""

    @property
    def reference(self) -> str:
        """Its name for the engine and the cluster."""
        return f"{REGISTRY}/fleet-{self.name}:{self.tag}"


def main() -> int:
    """Build what is missing, load everything, and write the tags where the tests look for them."""
    engine = os.environ.get("E2E_ENGINE") or find_engine()
    if not engine:
        print("neither podman nor docker is on PATH; set E2E_ENGINE", file=sys.stderr)
        return 1
    flags = shlex.split(os.environ.get("E2E_BUILD_FLAGS", ""))
    images = list(wanted())
    for image in images:
        if not is_there(engine, image):
            print(f"building {image.reference}", flush=True)
            command = [engine, "build", *flags, *image.arguments, "--tag", image.reference, "."]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    loader = shlex.split(os.environ.get("E2E_LOAD_IMAGE", ""))
    if loader:
        print(f"loading {len(images)} images into the cluster", flush=True)
        subprocess.run([*loader, *(image.reference for image in images)], cwd=ROOT, check=True)
    WRITTEN.parent.mkdir(parents=True, exist_ok=True)
    WRITTEN.write_text(json.dumps(described(images), indent=2) + "\n")
    return 0


def find_engine() -> str | None:
    """Return the first engine that is installed."""
    return next((name for name in ("podman", "docker") if shutil.which(name)), None)


def wanted() -> Iterator[Image]:
    """Yield the images: reference workloads, two builds of the tests' workload, and a Temporal server."""
    for workload in reference_workloads():
        folder = f"workloads/{workload}"
        yield worker_image(workload, folder, tag=digest(*SOURCES, folder))
    shared = digest(*SOURCES, E2E_WORKLOAD)
    for number in (1, 2):
        tag = f"{shared}-{number}"
        yield worker_image("e2e", E2E_WORKLOAD, tag=tag, extras="encryption")
    yield Image("dev-server", digest("Dockerfile", "locks"), ("--target", "dev-server"))


def reference_workloads() -> list[str]:
    """Return the workloads that get an image, as every other verb finds them."""
    # Not imported: for type checkers its name is that of the folder.
    command = [sys.executable, str(ROOT / "scripts" / "workloads.py")]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()


def worker_image(workload: str, folder: str, tag: str, extras: str = "") -> Image:
    """Describe the image of one workload; its tag is its build ID."""
    build_arguments = {
        "WORKLOAD": workload,
        "WORKLOAD_DIR": folder,
        "BUILD_ID": tag,
        "EXTRAS": extras,
    }
    pairs = (("--build-arg", f"{name}={value}") for name, value in build_arguments.items())
    return Image(workload, tag, tuple(word for pair in pairs for word in pair))


def digest(*paths: str) -> str:
    """Return 12 hex digits that change with the content of files and folders."""
    summed = hashlib.sha256()
    for path in paths:
        for file in sorted(each for each in (ROOT / path, *(ROOT / path).rglob("*"))):
            if (
                file.is_file()
                and "__pycache__" not in file.parts
                and "tests" not in file.parts[-2:]
            ):
                summed.update(f"{file.relative_to(ROOT)}\0".encode())
                summed.update(hashlib.sha256(file.read_bytes()).digest())
    return summed.hexdigest()[:12]


def is_there(engine: str, image: Image) -> bool:
    """Whether the engine has an image already."""
    command = [engine, "image", "inspect", image.reference]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def described(images: list[Image]) -> Mapping[str, object]:
    """Return what the tests need to know of the images."""
    tags: dict[str, list[str]] = {}
    for image in images:
        tags.setdefault(image.name, []).append(image.tag)
    return {"registry": REGISTRY, "repositoryPrefix": "fleet-", "tags": tags}


if __name__ == "__main__":
    sys.exit(main())
