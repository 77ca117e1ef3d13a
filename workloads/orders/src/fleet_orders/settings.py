"""Settings of the orders workload; every name starts with ``ORDERS_``."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleet_orders.stock_database import parse_database_url

DEFAULT_DATABASE_URL = "sqlite:///.fleet/stock.db"
"""Stock of a developer's machine; relative to the working directory."""


class OrderSettings(BaseSettings):
    """Where the stock lives and how fast the simulated shop works."""

    model_config = SettingsConfigDict(env_prefix="ORDERS_", frozen=True, extra="forbid")

    database_url: SecretStr = SecretStr(DEFAULT_DATABASE_URL)
    """Database of the stock: ``sqlite:///PATH`` or ``postgresql://USER:PASSWORD@HOST/NAME``. All
    orders workers must see the same stock: on one machine that can be an SQLite file, pods on
    several nodes need PostgreSQL."""
    pool_size: Annotated[int, Field(ge=1, le=200)] | None = None
    """Database connections of one worker process. None means one for each thread of the worker, at
    most 20 for PostgreSQL (its servers allow 100 by default, shared by all pods) and 4 for SQLite
    (it has one writer)."""
    pool_timeout: timedelta = timedelta(seconds=10)
    """Longest wait for a free connection of the pool, or for a new one to be made. It fires before
    the activities' own timeout, so that the error names the pool."""
    lock_timeout: timedelta = timedelta(seconds=10)
    """Longest wait for a lock that another process holds on the stock."""
    packing_time_per_item: timedelta = timedelta(milliseconds=20)
    """How long packing one item takes."""

    @field_validator("database_url")
    @classmethod
    def _refuse_other_databases(cls, value: SecretStr) -> SecretStr:
        parse_database_url(value)
        return value
