"""What happens to payloads between a workload and the server: they are encrypted where keys are given."""

from temporal_fleet.payloads.converting import data_converter

__all__ = ["data_converter"]
