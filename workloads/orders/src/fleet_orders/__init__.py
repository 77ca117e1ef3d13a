"""Reference workload: an order saga with compensations, signals, an update and a child workflow."""

from __future__ import annotations

from temporalio import workflow

# The sandbox imports a workflow's module for each run, and this package with it. What hangs on the
# declaration must not be imported again with it: that would take longer than running the workflow.
with workflow.unsafe.imports_passed_through():
    from fleet_orders.declaration import workload

__all__ = ["workload"]
