"""The reference is as fresh as the source, and no link in the documentation leads nowhere."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / "scripts" / "gen_docs.py"
PAGES = ("settings.md", "metrics.md", "exit-codes.md", "cli.md")
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "workloads/*/*.md", "examples/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]:\s+(\S+)")
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*$")
EXPLICIT_ANCHOR = re.compile(r"""<a\s+(?:id|name)=["']([^"']+)["']""")


@cache
def generator() -> dict[str, Any]:
    """What the script that writes the reference defines."""
    return runpy.run_path(str(GENERATOR))


def prose(path: Path) -> Iterator[str]:
    """The lines of a document that are not code."""
    fence = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        mark = FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence):
            fence = ""
        elif not fence:
            yield line


def targets(text: str) -> set[str]:
    """What the links of a text point to; code between backticks has none."""
    text = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "code", text, flags=re.DOTALL)
    found = {match[1] for match in LINK.finditer(text)}
    return found | {match[1] for line in text.splitlines() if (match := DEFINITION.match(line))}


@cache
def anchors(path: Path) -> frozenset[str]:
    """The anchors that GitHub gives to the headings of a document, and explicit ones."""
    seen: Counter[str] = Counter()
    found = set()
    for line in prose(path):
        found.update(EXPLICIT_ANCHOR.findall(line))
        if heading := HEADING.match(line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return frozenset(found)


def broken_links(document: Path, root: Path = ROOT) -> list[str]:
    """The relative links of a document that lead nowhere, each with what is missing."""
    broken = []
    for target in sorted(targets("\n".join(prose(document)))):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (document.parent / unquote(file)).resolve() if file else document
        if file.startswith("/") or not path.is_relative_to(root):
            broken.append(f"{target}: leads out of the repository")
        elif not path.exists():
            broken.append(f"{target}: no such file")
        elif anchor and path.suffix == ".md" and unquote(anchor) not in anchors(path):
            broken.append(f"{target}: no such heading")
    return broken


@pytest.mark.parametrize("page", PAGES)
def test_reference_page_compared_with_the_source_is_fresh(page: str) -> None:
    """A page of the reference says what the source says; `make docs` writes it anew."""
    written = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8")

    assert written == generator()["render"](page), f"docs/reference/{page} is stale: make docs"


def test_reference_pages_are_all_that_the_generator_knows() -> None:
    """No page is written without being compared, and none lies there that nobody writes."""
    on_disk = {path.name for path in (ROOT / "docs" / "reference").iterdir()}

    assert set(PAGES) == set(generator()["PAGES"]) == on_disk


def test_reference_written_under_odd_settings_terminal_and_locale_is_the_same() -> None:
    """What is generated on a laptop and in CI is the same, whatever is set there."""
    odd = {
        "FLEET_DRAIN_TIMEOUT_SECONDS": "77",
        "TEMPORAL_ADDRESS": "elsewhere:1234",
        "OTEL_SERVICE_NAME": "odd",
        "COLUMNS": "37",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONHASHSEED": "4711",
    }
    check = "import runpy, sys; pages = runpy.run_path(sys.argv[1]); "
    check += "sys.stdout.buffer.write(''.join(map(pages['render'], pages['PAGES'])).encode())"
    texts = [
        subprocess.run(
            [sys.executable, "-c", check, str(GENERATOR)],
            env={**os.environ, **extra},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for extra in ({}, odd)
    ]

    assert texts[0] == texts[1]


def test_gen_docs_check_names_stale_files_until_they_are_written(tmp_path: Path) -> None:
    """The check fails with the names of exactly the files that must be written again."""
    script = tmp_path / "scripts" / GENERATOR.name
    script.parent.mkdir()
    script.write_bytes(GENERATOR.read_bytes())

    def run(*args: str) -> tuple[int, str]:
        command = [sys.executable, str(script), *args]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return ended.returncode, ended.stdout + ended.stderr

    missing = run("--check")
    written = run()
    fresh = run("--check")
    page = tmp_path / "docs" / "reference" / "cli.md"
    page.write_text("edited by hand", encoding="utf-8")
    edited = run("--check")

    assert missing[0] == 1
    assert all(f"docs/reference/{page}" in missing[1] for page in PAGES)
    assert written[0] == 0
    assert fresh == (0, "docs/reference is fresh\n")
    assert edited == (1, "not fresh: docs/reference/cli.md. Run: make docs\n")


@pytest.mark.parametrize("page", PAGES)
def test_reference_page_begins_by_saying_how_it_is_made(page: str) -> None:
    """Whoever opens a page to edit it learns from its first line which verb writes it."""
    first = generator()["render"](page).splitlines()[0]

    assert "make docs" in first
    assert "do not edit" in first


@pytest.mark.parametrize("document", DOCUMENTS)
def test_relative_links_of_a_document_lead_to_existing_files_and_headings(document: str) -> None:
    """A reader who follows a link inside the repository arrives."""
    assert broken_links(ROOT / document) == []


def test_broken_links_of_a_bad_document_are_all_found(tmp_path: Path) -> None:
    """The check itself sees a missing file, a missing heading and a way out; code is no link."""
    document = tmp_path / "bad.md"
    document.write_text(
        "# Here we go\n## `Twice` [linked](bad.md), it's\n## Here we go\n"
        "[fine](#here-we-go) [fine](bad.md#here-we-go-1) [fine](#twice-linked-its)\n"
        "[no file](nowhere.md) [no heading](bad.md#there) [wrapped\nover lines](also-gone.md)\n"
        "`[code](in-backticks.md)`\n\n```text\n[code](in-a-block.md)\n```\n"
        "[out](../elsewhere.md) [web](https://temporal.io)\n\n[name]: missing.md\n",
        encoding="utf-8",
    )

    assert broken_links(document, tmp_path) == [
        "../elsewhere.md: leads out of the repository",
        "also-gone.md: no such file",
        "bad.md#there: no such heading",
        "missing.md: no such file",
        "nowhere.md: no such file",
    ]
