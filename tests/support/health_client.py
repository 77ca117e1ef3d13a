"""A client of the health server, and the metrics that its tests serve."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from temporal_fleet.health.state import HealthState, Phase
from temporal_fleet.settings import HealthSettings

WORKER_METRICS = b"""# HELP fleet_things_total Things.
# TYPE fleet_things_total counter
fleet_things_total{kind="a, b"} 3.0
fleet_things_total{kind="own",build_id="mine"} 1.0
# HELP fleet_plain A gauge.
# TYPE fleet_plain gauge
fleet_plain 2.0
"""


class Answer:
    """What a client got, and how long it took."""

    def __init__(self, port: int, path: str, method: str = "GET", **headers: str) -> None:
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        self.body = response.read()
        self.seconds = time.perf_counter() - began
        self.status = response.status
        self.headers = response.headers
        connection.close()

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def samples(self) -> dict[str, float]:
        """The body's samples, parsed by prometheus_client."""
        return {
            f"{s.name}{json.dumps(s.labels, sort_keys=True)}": s.value
            for family in text_string_to_metric_families(self.text)
            for s in family.samples
        }


def wait_until(condition: Callable[[], bool], *, timeout: float = 10) -> None:
    """Wait for something that happens in another process and sends no event."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def settings(**values: Any) -> HealthSettings:
    """Return settings for any free port on loopback."""
    return HealthSettings(**{"bind_address": "127.0.0.1", "port": 0, **values})


def all_ok(state: HealthState) -> None:
    """Make a worker's state that of one that is ready."""
    state.set_phase(Phase.POLLING)
    state.set_check("temporal", True)
    state.set_check("pollers", True, "2 pollers")
