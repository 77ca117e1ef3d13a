"""Edits values files for people who keep them in Git: adds the next build, removes drained ones.

Needs the extra ``gitops``. Knows the chart's values and no server; what the server says is handed in.
"""

from temporal_fleet.rollout_values.adding import NewBuild, add_build
from temporal_fleet.rollout_values.document import Document, diff, read_document, write_atomically
from temporal_fleet.rollout_values.pruning import (
    Candidate,
    Kept,
    Pruned,
    find_candidates,
    prune_builds,
)

__all__ = [
    "Candidate",
    "Document",
    "Kept",
    "NewBuild",
    "Pruned",
    "add_build",
    "diff",
    "find_candidates",
    "prune_builds",
    "read_document",
    "write_atomically",
]
