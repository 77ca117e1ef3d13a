"""Workload of the cluster tests: steps that tell which build ran them, naps and computations."""

from __future__ import annotations

from fleet_e2e.declaration import workload

__all__ = ["workload"]
