"""Reference workload: charges and refunds on a double-entry ledger."""

from __future__ import annotations

from fleet_payments.declaration import workload

__all__ = ["workload"]
