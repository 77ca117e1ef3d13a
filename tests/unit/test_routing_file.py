from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from temporal_fleet.errors import ExitCode, RoutingFileError
from temporal_fleet.rollout.routing_file import parse_routing, read_routing
from temporal_fleet.versioning import (
    UNVERSIONED,
    DesiredDeployment,
    Place,
    Risk,
    RolloutMode,
    Routing,
)

FILE = {
    "apiVersion": "temporal-fleet/v1",
    "release": "fleet",
    "queues": {
        "orders": {
            "deployment": "shop-orders",
            "builds": {
                "blue": {"buildId": "1.4.0-abc", "versioned": True},
                "green": {"buildId": "1.5.0-def", "versioned": True},
            },
            "routing": {"current": "blue", "ramping": "green", "percentage": 10},
            "rollout": {
                "mode": "manual",
                "allowRampDown": True,
                "allowMissingTaskQueues": True,
                "allowSharedTaskQueues": True,
            },
        }
    },
}

ORDERS = DesiredDeployment(
    queue="orders",
    deployment="shop-orders",
    builds={"blue": "1.4.0-abc", "green": "1.5.0-def"},
    routing=Routing("1.4.0-abc", "1.5.0-def", 10),
    mode=RolloutMode.MANUAL,
    allow_ramp_down=True,
    accepted=frozenset({Risk.MISSING_TASK_QUEUES, Risk.SHARED_TASK_QUEUES}),
    workers={"1.4.0-abc": {"orders": "orders"}, "1.5.0-def": {"orders": "orders"}},
)


def config_map(content: str) -> str:
    """Return a ConfigMap as kubectl prints it."""
    metadata = {"name": "fleet-routing", "namespace": "shop"}
    data = {"routing.json": content}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def with_queue(**changes: Any) -> str:
    """Return a routing file whose only task queue has other values; None leaves a key out."""
    queue = {**FILE["queues"]["orders"], **changes}  # type: ignore[index]
    queue = {key: each for key, each in queue.items() if each is not None}
    return json.dumps({**FILE, "queues": {"orders": queue}})


def problems_of(text: str) -> list[str]:
    """Return the problems of a routing file, as people see them."""
    with pytest.raises(RoutingFileError) as caught:
        parse_routing(text, "f.json")
    assert caught.value.exit_code is ExitCode.STARTUP
    return [str(problem) for problem in caught.value.problems]


def test_routing_file_resolves_keys_of_builds_to_build_ids(tmp_path: Path) -> None:
    """Whoever reads it deals with build IDs only."""
    path = tmp_path / "routing.json"
    path.write_text(json.dumps(FILE))

    assert read_routing(path) == {"orders": ORDERS}


def test_routing_file_inside_a_config_map_is_the_same() -> None:
    """What kubectl prints can be used as it is."""
    assert parse_routing(config_map(json.dumps(FILE)), "f.json") == {"orders": ORDERS}


def test_routing_file_is_read_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash stands for standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(FILE)))

    assert read_routing("-") == {"orders": ORDERS}


def test_routing_file_with_one_build_makes_it_current() -> None:
    """Ten lines of values need no routing."""
    builds = {"blue": {"buildId": "1"}}

    (orders,) = parse_routing(with_queue(builds=builds, routing=None), "f").values()

    assert orders.routing == Routing("1", None, 0)


def test_routing_file_with_unversioned_workers_uses_the_name_that_temporal_has_for_them() -> None:
    """A build with versioned: false polls without its build ID, whatever that is."""
    builds = {"old": {"buildId": "1", "versioned": False}, "blue": {"buildId": "2"}}
    routing = {"current": "old", "ramping": "blue", "percentage": 33.3}

    (orders,) = parse_routing(with_queue(builds=builds, routing=routing), "f").values()

    assert orders.builds == {"old": UNVERSIONED, "blue": "2"}
    assert orders.routing == Routing(UNVERSIONED, "2", 33.3)


@pytest.mark.parametrize("nothing", ["", None])
def test_routing_file_with_an_empty_ramp_has_none(nothing: str | None) -> None:
    """Charts write an empty text where nothing is ramping."""
    routing = {"current": "blue", "ramping": nothing, "percentage": 0}

    (orders,) = parse_routing(with_queue(routing=routing), "f").values()

    assert orders.routing == Routing("1.4.0-abc", None, 0)


@pytest.mark.parametrize(
    ("written", "read"), [("orders (eu)", "orders (eu)"), ("", None), (None, None)]
)
def test_routing_file_may_name_the_task_queue(written: str | None, read: str | None) -> None:
    """Unversioned workers of a new deployment can only be found by the name of their task queue."""
    (orders,) = parse_routing(with_queue(taskQueue=written), "f").values()

    assert orders.task_queue == read


BUILDS = FILE["queues"]["orders"]["builds"]  # type: ignore[index]

PROBLEMS = [
    pytest.param(
        "{,}",
        "f.json: is not JSON: Expecting property name enclosed in double quotes at line 1, column 2. "
        "Print a ConfigMap with kubectl get configmap NAME -o json.",
        id="not-json",
    ),
    pytest.param("[]", "f.json: is not a JSON object. Use routing.json of a release.", id="list"),
    pytest.param(
        json.dumps({"kind": "Secret", "data": {}}),
        "f.json: is an object of kind Secret and does not hold routing.json. Name the ConfigMap that "
        "ends with -routing.",
        id="another-object",
    ),
    pytest.param(
        config_map("{"),
        "routing.json in f.json: is not JSON: Expecting property name enclosed in double quotes at "
        "line 1, column 2. Print a ConfigMap with kubectl get configmap NAME -o json.",
        id="config-map-not-json",
    ),
    pytest.param(
        json.dumps({"apiVersion": "temporal-fleet/v1"}),
        "queues: is missing (set in f.json)",
        id="no-queues",
    ),
    pytest.param(
        json.dumps({**FILE, "apiVersion": "temporal-fleet/v2"}),
        "apiVersion: \"temporal-fleet/v2\" is wrong: Input should be 'temporal-fleet/v1' (set in "
        "f.json)",
        id="another-format",
    ),
    pytest.param(
        with_queue(rooting={}),
        "queues.orders.rooting: is not a key of a routing file (set in f.json). Did you mean routing?",
        id="unknown-key",
    ),
    pytest.param(
        json.dumps({**FILE, "x": 1}),
        "x: is not a key of a routing file (set in f.json). Known here: apiVersion, release, temporal, queues.",
        id="unknown-key-at-the-top",
    ),
    pytest.param(
        with_queue(routing={"current": "blue", "percent": 1}),
        "queues.orders.routing.percent: is not a key of a routing file (set in f.json). Did you mean "
        "percentage?",
        id="unknown-key-of-routing",
    ),
    pytest.param(
        with_queue(rollout={"moode": "manual"}),
        "queues.orders.rollout.moode: is not a key of a routing file (set in f.json). Did you mean mode?",
        id="unknown-key-of-rollout",
    ),
    pytest.param(
        with_queue(builds={"blue": {"buildID": "1"}, "green": {"buildId": "2"}}),
        "queues.orders.builds.blue.buildID: is not a key of a routing file (set in f.json). Did you mean "
        "buildId?",
        id="unknown-key-of-a-build",
    ),
    pytest.param(
        with_queue(routing={"current": "blue", "ramping": "green", "percentage": "10"}),
        'queues.orders.routing.percentage: "10" is wrong: Input should be a valid number (set in '
        "f.json)",
        id="percentage-text",
    ),
    pytest.param(
        with_queue(routing={"current": "blue", "ramping": "green", "percentage": 101}),
        "queues.orders.routing.percentage: 101 is wrong: Input should be less than or equal to 100 "
        "(set in f.json)",
        id="percentage-too-large",
    ),
    pytest.param(
        with_queue(routing={"current": "blue", "percentage": 10}),
        "queues.orders.routing.percentage: is 10, but nothing is ramping (set in f.json). Set it to "
        "0, or set ramping.",
        id="percentage-of-nobody",
    ),
    pytest.param(
        with_queue(routing={"current": "bleu"}),
        "queues.orders.routing.current: 'bleu' is not a key of the builds (set in f.json). Did you mean "
        "blue?",
        id="current-unknown",
    ),
    pytest.param(
        with_queue(routing={"current": "blue", "ramping": "1.5.0-def", "percentage": 1}),
        "queues.orders.routing.ramping: '1.5.0-def' is not a key of the builds (set in f.json). Use one "
        "of blue, green.",
        id="ramping-is-a-build-id",
    ),
    pytest.param(
        with_queue(routing={"current": "blue", "ramping": "blue"}),
        "queues.orders.routing.ramping: 'blue' is current already (set in f.json). Leave it empty, or "
        "name another build.",
        id="ramping-is-current",
    ),
    pytest.param(
        with_queue(routing=None),
        "queues.orders.routing.current: is not set, and there are several builds (set in f.json). Set "
        "it to one of blue, green.",
        id="no-current",
    ),
    pytest.param(
        with_queue(builds={}, routing=None),
        "queues.orders.builds: {} is wrong: Dictionary should have at least 1 item after validation, "
        "not 0 (set in f.json)",
        id="no-builds",
    ),
    pytest.param(
        with_queue(builds={**BUILDS, "blue": {"buildId": "1.5.0-def"}}),
        "queues.orders.builds.green.buildId: '1.5.0-def' is also the build ID of 'blue' (set in "
        "f.json). A build ID names one build.",
        id="build-id-twice",
    ),
    pytest.param(
        with_queue(builds={**BUILDS, "green": {}}),
        "queues.orders.builds.green.buildId: '' is not a build ID (set in f.json). Name one, or set "
        "versioned: false for workers without versioning.",
        id="no-build-id",
    ),
    pytest.param(
        with_queue(builds={key: {"versioned": False} for key in ("blue", "green")}),
        "queues.orders.builds: blue, green all have versioned: false, and Temporal cannot tell them "
        "apart (set in f.json). Keep one of them.",
        id="unversioned-twice",
    ),
    pytest.param(
        json.dumps({**FILE, "queues": dict.fromkeys(("a", "b"), FILE["queues"]["orders"])}),  # type: ignore[index]
        "queues.b.deployment: 'shop-orders' is also the Worker Deployment of 'a' (set in f.json). "
        "Each key has routing of its own and needs a Worker Deployment of its own.",
        id="deployment-twice",
    ),
]


@pytest.mark.parametrize(("text", "expected"), PROBLEMS)
def test_routing_file_that_is_wrong_is_told_with_place_and_cure(text: str, expected: str) -> None:
    """A problem names the key, the value, the file and what to do."""
    assert problems_of(text) == [expected]


def test_routing_file_with_several_problems_tells_all_at_once() -> None:
    """Mistakes of form in one task queue do not hide those of meaning in another."""
    queues = {
        "a": {"deployment": "a", "builds": {"blue": {"buildId": 1}}, "x": 1},
        "b": {"deployment": "b", "builds": {"blue": {"buildId": "1"}}, "routing": {"current": "c"}},
    }

    assert len(problems_of(json.dumps({**FILE, "queues": queues}))) == 3


def test_routing_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A wrong path is no traceback."""
    with pytest.raises(RoutingFileError, match="cannot be read: No such file"):
        read_routing(tmp_path / "routing.json")
    (tmp_path / "latin").write_bytes(b"\xff")
    with pytest.raises(RoutingFileError, match="not UTF-8"):
        read_routing(tmp_path / "latin")


def test_routing_file_that_says_where_workers_poll_tells_the_place_of_each() -> None:
    """A task queue that is left to the workload is called as the workload, or the key, is."""
    own: dict[str, dict[str, str]] = {
        "a": {"taskQueue": "tasks", "workload": "w"},
        "b": {"workload": "w"},
        "c": {},
    }
    builds = {"blue": {"buildId": "1.4.0", "versioned": True}}
    queues = {key: {"deployment": key, "builds": builds, **each} for key, each in own.items()}
    temporal = {"address": "temporal:7233", "namespace": "shop"}
    found = parse_routing(json.dumps({**FILE, "temporal": temporal, "queues": queues}), "f.json")

    places = [each.place for each in found.values()]
    assert places == [Place("temporal:7233", "shop", name) for name in ("tasks", "w", "c")]


def test_routing_file_that_is_empty_is_a_mistake_unless_nothing_may_be_there(
    tmp_path: Path,
) -> None:
    """An empty file stands for no task queues only for who says so."""
    (tmp_path / "routing.json").write_text("\n")

    with pytest.raises(RoutingFileError, match="is not JSON"):
        read_routing(tmp_path / "routing.json")
    assert read_routing(tmp_path / "routing.json", may_be_empty=True) == {}
