"""What happens to payloads between a workload and the server: they are encrypted where keys are given."""

from temporal_fleet.payloads.converting import codec_data_converter

__all__ = ["codec_data_converter"]
