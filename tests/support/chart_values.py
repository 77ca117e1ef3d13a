"""Values of the chart with a few words: the least that renders workers, and what differs from it."""

from __future__ import annotations

from typing import Any

from manifests import Values


def with_orders(**queue: Any) -> Values:
    """Return values of queue `orders` with one build, and what else is given of the queue."""
    return {
        "temporal": {"address": "temporal:7233"},
        "queues": {"orders": {"builds": {"blue": {"buildId": "1.4.0"}}, **queue}},
    }


def with_two_builds(**queue: Any) -> Values:
    """Return values of queue `orders` with the builds blue, which is current, and green."""
    builds = {"blue": {"buildId": "1"}, "green": {"buildId": "2"}}
    return with_orders(**{"builds": builds, "routing": {"current": "blue"}, **queue})


def with_queues(**queues: Any) -> Values:
    """Return values of these queues."""
    return {"temporal": {"address": "temporal:7233"}, "queues": queues}


def only_blue(**queue: Any) -> dict[str, Any]:
    """Return a queue whose only build is blue, and what else is given of it."""
    return {"builds": {"blue": {"buildId": "1"}}, **queue}
