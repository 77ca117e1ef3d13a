"""Alerts that Prometheus understands, from metrics that exist, each with something to do about it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from manifests import CHART, OPTIONAL_APIS, REPOSITORY, Chart, Objects, Values, require_tool

RULES = sorted((CHART / "files" / "rules").glob("*.yaml"))
CASES = sorted((REPOSITORY / "deploy" / "prometheus" / "tests").glob("*.yaml"))


def _alerts() -> Iterator[dict[str, Any]]:
    for file in RULES:
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


ALERTS = {rule["alert"]: rule for rule in _alerts()}


def test_rules_are_valid() -> None:
    """Promtool accepts every file of rules."""
    command = [require_tool("promtool", verb="ci-tools"), "check", "rules", *map(str, RULES)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should(case: Any) -> None:
    """Promtool plays series to the rules: alerts come when they should, and at no other time."""
    command = [require_tool("promtool", verb="ci-tools"), "test", "rules", case.name]
    result = subprocess.run(
        command, cwd=case.parent, capture_output=True, text=True, check=False, timeout=30
    )

    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_is_played() -> None:
    """No alert is shipped that was never seen to fire."""
    played = {
        test["alertname"]
        for case in CASES
        for each in yaml.safe_load(case.read_text(encoding="utf-8"))["tests"]
        for test in each["alert_rule_test"]
        if test["exp_alerts"]
    }

    assert played == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_alert_says_what_and_what_to_do(name: str) -> None:
    """Each alert has severity, summary and description, and a section of alerts.md that says what to do."""
    rule = ALERTS[name]
    guide = (REPOSITORY / "docs" / "operations" / "alerts.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {name}\n(.+?)(?=^## |\Z)", guide, re.MULTILINE | re.DOTALL)

    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/operations/alerts.md#{name.lower()}"
    assert section
    for part in ("**It means**", "**Look at**", "**Do**"):
        assert part in section[1], part


def test_chart_ships_all_alerts_unchanged(fleet: Objects) -> None:
    """The PrometheusRule holds the files as they are: helm does not touch the templates of annotations."""
    groups = fleet.only("PrometheusRule")["spec"]["groups"]

    assert {rule["alert"]: rule for group in groups for rule in group["rules"]} == ALERTS


def test_own_groups_are_added(chart: Chart, two_queues: Values) -> None:
    """A user's groups of rules come beside ours."""
    group = {"name": "mine", "rules": [{"alert": "Mine", "expr": "vector(1)"}]}
    monitoring = {"prometheusRule": {"enabled": True, "groups": [group]}}
    rendered = chart.render({**two_queues, "monitoring": monitoring}, apis=OPTIONAL_APIS)
    groups = rendered.only("PrometheusRule")["spec"]["groups"]

    assert groups[-1] == group
    assert len(groups) > 1
