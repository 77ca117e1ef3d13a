"""The dashboard asks for metrics that exist, in PromQL that parses."""

from __future__ import annotations

import json
import re
from typing import Any

import promql_parser
import pytest
import yaml
from manifests import CHART, REPOSITORY, Objects

DASHBOARDS = sorted((CHART / "files" / "dashboards").glob("*.json"))
PANELS = [
    (file.stem, panel)
    for file in DASHBOARDS
    for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]
    if panel["type"] != "row"
]
SUFFIXES = re.compile(r"_(bucket|sum|count)$")


def _known() -> dict[str, set[str]]:
    """Metrics of the reference and their labels."""
    page = (REPOSITORY / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", page, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, _, labels in rows}


KNOWN = _known()
EVERYWHERE = {"deployment", "build_id", "namespace", "pod", "le", "job", "instance", "container"}


def _expressions() -> dict[str, str]:
    found = {
        f"{file}: {panel['title']} {target['refId']}": target["expr"]
        for file, panel in PANELS
        for target in panel["targets"]
    }
    for file in sorted((CHART / "files" / "rules").glob("*.yaml")):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            found |= {rule["alert"]: rule["expr"] for rule in group["rules"]}
    return found


EXPRESSIONS = _expressions()


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expression_asks_for_what_exists(name: str) -> None:
    """Every expression of panels and alerts parses, and names only documented metrics and labels."""
    plain = re.sub(r"\$__(rate_interval|interval|range)", "5m", EXPRESSIONS[name])
    parsed = promql_parser.parse(plain)
    metrics, labels = _names(parsed)

    assert metrics
    assert {SUFFIXES.sub("", name) for name in metrics} <= set(KNOWN)
    allowed = EVERYWHERE.union(*(KNOWN[SUFFIXES.sub("", name)] for name in metrics))
    assert labels <= allowed


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboard_can_be_imported(file: Any) -> None:
    """A dashboard has a fixed uid, a variable for its data source, and panels that do not overlap."""
    dashboard = json.loads(file.read_text(encoding="utf-8"))
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    cells: set[tuple[int, int]] = set()

    assert dashboard["uid"] == file.stem
    assert dashboard["title"]
    assert dashboard["id"] is None
    assert variables["datasource"]["query"] == "prometheus"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not covered & cells, panel["title"]
        cells |= covered


@pytest.mark.parametrize("panel", [p for _, p in PANELS], ids=[p["title"] for _, p in PANELS])
def test_panel_explains_itself(panel: dict[str, Any]) -> None:
    """Each panel has a unit, a legend and a description, uses the data source variable and both filters."""
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert 'deployment=~"$deployment"' in target["expr"]
        assert 'build_id=~"$build_id"' in target["expr"]


def test_chart_ships_the_dashboard_unchanged(fleet: Objects) -> None:
    """The ConfigMap for Grafana's sidecar holds each file as it is; helm touches no `{{ }}` of legends."""
    held = {
        name: text
        for each in fleet.of_kind("ConfigMap")
        if each["metadata"]["labels"].get("grafana_dashboard") == "1"
        for name, text in each["data"].items()
    }

    assert {name: json.loads(text) for name, text in held.items()} == {
        file.name: json.loads(file.read_text(encoding="utf-8")) for file in DASHBOARDS
    }


def _names(expression: Any) -> tuple[set[str], set[str]]:
    """Metrics and labels that an expression names, as its text does."""
    text = expression.prettify()
    bare = re.sub(r'"(\\.|[^"\\])*"', '""', text)
    metrics = set(re.findall(r"\b(?:fleet|temporal|process|python)_\w+", bare))
    lists = re.findall(r"\b(?:by|without|on|ignoring|group_left) \(([\w, ]*)\)", bare)
    labels = {label for each in lists for label in re.findall(r"\w+", each)}
    labels |= set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"\"", bare))
    return metrics, labels
