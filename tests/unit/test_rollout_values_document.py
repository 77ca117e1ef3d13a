from __future__ import annotations

from pathlib import Path

import pytest
from edited_values import document

from temporal_fleet.errors import ValuesFileError
from temporal_fleet.rollout_values import read_document, write_atomically

EDITED = [
    pytest.param("a:\n  b: 1\n", "a:\n  b: 1\n  c: 7\n", id="block"),
    pytest.param("a:\n  b: 1", "a:\n  b: 1\n  c: 7\n", id="no-newline-at-the-end"),
    pytest.param("a:\r\n  b: 1\r\nd: 2\r\n", "a:\r\n  b: 1\r\n  c: 7\r\nd: 2\r\n", id="crlf"),
    pytest.param("a: {}\n", "a: {c: 7}\n", id="empty-braces"),
    pytest.param("a: {b: 1,}  # c\n", "a: {b: 1, c: 7,}  # c\n", id="trailing-comma"),
    pytest.param("a:   # nothing\nd: 2\n", "a: {c: 7}   # nothing\nd: 2\n", id="null"),
    pytest.param("a:\n  b:\n\n\nd: 2\n", "a:\n  b:\n  c: 7\n\n\nd: 2\n", id="null-before"),
    pytest.param("a:\n  b: |\n    t\n\nd: 2\n", "a:\n  b: |\n    t\n  c: 7\n\nd: 2\n", id="text"),
    pytest.param("a:\n  b:\n  - 1\n  -\nd: 2\n", "a:\n  b:\n  - 1\n  -\n  c: 7\nd: 2\n", id="list"),
    pytest.param(
        "z: &z {q: 1}\na:\n  b: *z  # it\nd: 2\n",
        "z: &z {q: 1}\na:\n  b: *z  # it\n  c: 7\nd: 2\n",
        id="alias-before",
    ),
    pytest.param("d: 2\n", "d: 2\na:\n  c: 7\n", id="parent-missing"),
    pytest.param("a:\n  c: >-\n    y\n    y\nd: 2\n", "a:\n  c: 7\nd: 2\n", id="folded"),
]


@pytest.mark.parametrize(("before", "after"), EDITED)
def test_document_is_changed_at_one_place_only(before: str, after: str) -> None:
    """Whatever way a map is written, an entry is set in that way and the rest stays."""
    made = document(before)

    made.set(("a", "c"), 7)

    assert made.text == after


@pytest.mark.parametrize("quotes", ["", "'", '"'])
def test_document_keeps_the_quotes_of_a_text(quotes: str) -> None:
    """A replaced text is written as the former one was."""
    made = document(f"a:\n  c: {quotes}old{quotes}  # d\n")

    made.set(("a", "c"), "x")

    assert made.text == f"a:\n  c: {quotes}x{quotes}  # d\n"


REMOVED = [
    pytest.param("a:\n  c: 1\n  b: 2\n", "a:\n  b: 2\n", id="first"),
    pytest.param("a:\n  b: 2\n  c:\n    d: 1\n    # e\nz: 1\n", "a:\n  b: 2\nz: 1\n", id="last"),
    pytest.param("a:\n  b: 2\n  # of c\n  c: 1\n", "a:\n  b: 2\n", id="its-comment"),
    pytest.param(
        "a:\n  # of all\n  c: 1\n  b: 2\n", "a:\n  # of all\n  b: 2\n", id="a-comment-of-all"
    ),
    pytest.param(
        "a:\n  b: 2\n\n  # of c\n  c: 1\n\n  # of d\n  d: 1\n",
        "a:\n  b: 2\n\n  # of d\n  d: 1\n",
        id="between-blank-lines",
    ),
    pytest.param("a: {c: 1, b: 2}\n", "a: {b: 2}\n", id="first-in-braces"),
    pytest.param("a: {b: 2, c: {d: 1}} # x\n", "a: {b: 2} # x\n", id="last-in-braces"),
    pytest.param("a: {c: 1}\n", "a: {}\n", id="only-in-braces"),
]


@pytest.mark.parametrize(("before", "after"), REMOVED)
def test_document_loses_an_entry_and_what_belongs_to_it(before: str, after: str) -> None:
    """With an entry go its own comments, and nobody else's."""
    made = document(before)

    made.remove(("a", "c"))

    assert made.text == after


SHARED = [
    pytest.param("x: &x\n  c: 1\na: *x\n", id="alias"),
    pytest.param("x: &x\n  c: 1\na:\n  <<: *x\n", id="merge-key"),
    pytest.param("a: &x\n  c: 1\nx: *x\n", id="anchor"),
]


@pytest.mark.parametrize("text", SHARED)
def test_document_that_shares_the_place_is_not_changed(text: str) -> None:
    """An edit that would change something else as well is refused."""
    made = document(text)

    with pytest.raises(ValuesFileError, match="Edit it by hand"):
        made.remove(("a", "c"))

    assert made.text == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "is not valid YAML"),
        ("a: 1\na: 2\n", "is not valid YAML"),
        ("a: 1\n---\nb: 1\n", "is not valid YAML"),
        ("- a\n", "is not a map"),
        ("", "is not a map"),
    ],
)
def test_document_that_is_no_map_is_told(text: str, expected: str) -> None:
    """A broken file is named together with what is wrong."""
    with pytest.raises(ValuesFileError, match=f"values.yaml.*{expected}"):
        document(text)


def test_document_that_would_lose_an_anchor_is_not_changed() -> None:
    """What others refer to stays."""
    made = document("a:\n  c: &c {d: 1}\nx: *c\n")

    with pytest.raises(ValuesFileError, match="Edit it by hand"):
        made.remove(("a", "c"))


def test_written_file_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    """A values file that is a link stays one, and nobody loses the right to read it."""
    file, link = tmp_path / "real.yaml", tmp_path / "values.yaml"
    file.write_text("a: 1\n")
    file.chmod(0o640)
    link.symlink_to(file)

    write_atomically(link, "a: 2\n")

    assert link.is_symlink()
    assert file.read_text() == "a: 2\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(tmp_path.iterdir()) == [file, link]


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A wrong path or encoding is no traceback."""
    with pytest.raises(ValuesFileError, match="cannot be read: No such file"):
        read_document(tmp_path / "values.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"\xff")
    with pytest.raises(ValuesFileError, match="not UTF-8"):
        read_document(tmp_path / "latin.yaml")


def test_file_that_cannot_be_written_is_told_and_stays(tmp_path: Path) -> None:
    """A failed write leaves the old content and no debris."""
    with pytest.raises(ValuesFileError, match="cannot be written"):
        write_atomically(tmp_path / "nowhere" / "values.yaml", "a: 2\n")

    assert list(tmp_path.iterdir()) == []
