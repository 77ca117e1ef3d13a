"""Renew or check the locks: of the developer's environment, cuts of it for the images, and checkov's.

Locks hold names, releases and hashes only, so they are the same whichever index serves the packages;
``uv.lock`` would write addresses into the repository. A cut takes its releases from
``requirements.lock``: an image runs with what the tests ran with. There is a cut for each workload
(``workloads/<name>/requirements.lock``; the cluster tests have one, too), for each extra of the runtime and
for the tools that build images (``locks/``). checkov, which looks at the manifests, pins so much that it is
resolved apart from all that (``tests/deploy/policy.lock``).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = Path("requirements.lock")
POLICY_LOCK = Path("tests/deploy/policy.lock")
TEST_WORKLOAD = Path("tests/e2e/workload/pyproject.toml")
COMPILE = (
    *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes"),
    *("--no-header", "--no-emit-index-url", "--python-version", "3.11"),
)


@dataclass(frozen=True)
class Cut:
    """A lock that is a part of ``requirements.lock``."""

    path: Path
    """Where it is, relative to the root."""
    sources: tuple[str, ...]
    """What uv resolves: arguments of ``uv pip compile``."""
    requirements: tuple[str, ...] = ()
    """What uv reads from its standard input."""


def main() -> int:
    """Write the locks, or with ``--check`` compare them with what the projects ask for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="fail when a lock is not fresh")
    parser.add_argument("--upgrade", action="store_true", help="take the newest releases")
    arguments = parser.parse_args()
    if arguments.check:
        return check_locks()
    compile_whole(ROOT, upgrade=arguments.upgrade)
    compile_cuts(ROOT)
    return 0


def check_locks() -> int:
    """Say which locks are not what a new resolution would write; 1 when there are any."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        compile_whole(fresh, upgrade=False)
        stale = _differing(fresh, list(whole()))
        if LOCK not in stale:
            compile_cuts(fresh)
            stale += _differing(fresh, [cut.path for cut in cuts()])
    for path in stale:
        print(f"{path} is not fresh: a pyproject.toml changed. Run: python scripts/lock.py")
    if not stale:
        print(f"{LOCK} and its {len(cuts())} cuts are fresh, and {POLICY_LOCK} is")
    return 1 if stale else 0


def compile_whole(folder: Path, *, upgrade: bool) -> None:
    """Write what is no cut below *folder*; releases stay what they are as far as they fit, unless *upgrade*."""
    for path, sources in whole().items():
        output = folder / path
        if folder != ROOT and (ROOT / path).exists():
            output.parent.mkdir(parents=True, exist_ok=True)
            # What uv finds in the place of its output is what it keeps to.
            shutil.copy(ROOT / path, output)
        _compile([*sources, "--upgrade"] if upgrade else sources, output)


def compile_cuts(folder: Path) -> None:
    """Write every cut below *folder*, all at once: uv mostly waits for the index."""

    def write(cut: Cut) -> None:
        arguments = ["--constraints", str(LOCK), *cut.sources]
        _compile(arguments, folder / cut.path, "\n".join(cut.requirements))

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, cuts()))


def whole() -> dict[Path, list[str]]:
    """Return the locks that are resolved by themselves, each with what uv resolves."""
    return {
        # The root project and every workload together.
        LOCK: ["--all-extras", "--group", "dev", "pyproject.toml", *map(str, _members())],
        POLICY_LOCK: ["--group", "policy"],
    }


def cuts() -> list[Cut]:
    """Return the cuts of this repository."""
    root = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras: dict[str, list[str]] = root["project"]["optional-dependencies"]
    locks = Path("locks")
    return [
        *(
            Cut(project.with_name(LOCK.name), (str(project),))
            for project in (*_members(), TEST_WORKLOAD)
        ),
        *(Cut(locks / f"{name}.lock", ("-",), tuple(asked)) for name, asked in extras.items()),
        Cut(locks / "build.lock", ("--group", "build")),
    ]


def _compile(arguments: Sequence[str], output: Path, standard_input: str = "") -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    own = (f"--no-emit-package={name}" for name in _own_names())
    command = [*COMPILE, *own, *arguments, "--output-file", str(output)]
    subprocess.run(
        command, cwd=ROOT, check=True, text=True, input=standard_input, stdout=subprocess.DEVNULL
    )


def _own_names() -> list[str]:
    projects = [ROOT / path for path in (Path("pyproject.toml"), *_members())]
    return [tomllib.loads(path.read_text())["project"]["name"] for path in projects]


def _members() -> list[Path]:
    return [path.relative_to(ROOT) for path in sorted(ROOT.glob("workloads/*/pyproject.toml"))]


def _differing(fresh: Path, paths: Sequence[Path]) -> list[Path]:
    return [
        path
        for path in paths
        if not (ROOT / path).exists() or (fresh / path).read_text() != (ROOT / path).read_text()
    ]


if __name__ == "__main__":
    sys.exit(main())
