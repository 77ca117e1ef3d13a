"""Settings of the orders workload; every name starts with ``ORDERS_``."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class OrderSettings(BaseSettings):
    """Where the stock lives and how fast the simulated shop works."""

    model_config = SettingsConfigDict(env_prefix="ORDERS_", frozen=True, extra="forbid")

    stock_path: Path = Path(".fleet/stock.db")
    """SQLite file of the stock, relative to the working directory. All orders workers must see the
    same file, so they must run on one machine."""
    lock_timeout: timedelta = timedelta(seconds=10)
    """Longest wait for a lock that another process holds on the stock."""
    packing_time_per_item: timedelta = timedelta(milliseconds=20)
    """How long packing one item takes."""
