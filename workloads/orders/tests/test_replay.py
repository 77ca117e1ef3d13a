from __future__ import annotations

import base64
import json
from pathlib import Path

from fleet_orders import workload
from temporal_fleet.testing import replay_histories

HISTORIES = Path(__file__).parent / "histories"


async def test_recorded_histories_replay() -> None:
    """The workflows still do what they did in every recorded history."""
    assert await replay_histories(workload, HISTORIES) >= 5


def test_recorded_histories_are_of_every_kind() -> None:
    """There is a history of an order that was fulfilled, compensated and cancelled."""
    states = set()
    for file in HISTORIES.glob("*.json"):
        last = json.loads(file.read_text())["events"][-1]
        payload = last["workflowExecutionCompletedEventAttributes"]["result"]["payloads"][0]
        states.add(json.loads(base64.b64decode(payload["data"])).get("state"))

    assert {"fulfilled", "compensated", "cancelled"} <= states
