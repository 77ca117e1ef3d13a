"""Values files as people write them, and a server with builds to prune, for tests of edits."""

from __future__ import annotations

from pathlib import Path

from simulated_server import build, deployment

from temporal_fleet.rollout_values import Document, diff, find_candidates, prune_builds
from temporal_fleet.versioning import BuildStatus, ObservedDeployment

CURRENT, DRAINING, DRAINED = BuildStatus.CURRENT, BuildStatus.DRAINING, BuildStatus.DRAINED

VALUES = """\
# Values of production. Owner: platform team
temporal:
  address: "temporal.example.com:7233"   # the frontend
  namespace: 'shop'

queueDefaults:
  resources: {requests: {cpu: 100m, memory: 256Mi}, limits: {memory: 512Mi}}
  env:
    # Nobody may fold this line, since the pipeline compares it with something else, as it is
    LONG: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

queues:
  orders:
    image:
      repository: shop/orders
    builds:
      # The slots. Keep both in mind.
      blue:
        buildId: "1.4.0-abc"   # released on Monday
        replicas: 5
        # replicas: 7 on Fridays

    # Who gets new work
    routing:
      current: blue      # the good one
      ramping: ""
      percentage: 0

  payments:
    builds: {blue: {buildId: '2.0.0'}, green: {buildId: '2.1.0', image: {tag: x}}}
    routing: {current: green, ramping: '', percentage: 0}  # one line

  reports:
    deploymentName: shop-reports
    builds:
      r-1-0: {buildId: "1.0"}

# The end
networkPolicy:
  enabled: true
"""

THREE = """\
queues:
  orders:
    builds:
      # slots
      blue:
        buildId: "1"

      # the hotfix
      red:
        buildId: "2"

      green:
        buildId: "3"
    routing: {current: green}
"""


def document(text: str = VALUES) -> Document:
    """Return the values as a document."""
    return Document(text, "values.yaml")


def changes(made: Document, before: str = VALUES) -> list[str]:
    """Return the lines that were removed and added."""
    lines = diff(before, made.text, Path("values.yaml")).splitlines()[2:]
    return [line for line in lines if line[0] in "+-"]


def observed(red: BuildStatus = DRAINED, pinned: int = 0) -> dict[str, ObservedDeployment]:
    """Return a server where build 1 is drained, with pollers, and build 3 is current."""
    builds = (build("1", DRAINED), build("2", red, pinned=pinned), build("3", CURRENT))
    return {"orders": deployment(*builds, current="3")}


def drained(text: str) -> str:
    """Return values after all builds that their routing does not name were pruned as drained."""
    values = document(text)
    candidates = find_candidates(values)
    found = deployment(*(build(each.build_id, DRAINED) for each in candidates), current="other")
    prune_builds(values, candidates, dict.fromkeys(["orders"], found))
    return values.text
