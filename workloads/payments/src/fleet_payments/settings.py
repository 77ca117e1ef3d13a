"""Settings of the payments workload; every name starts with ``PAYMENTS_``."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleet_payments.database import parse_database_url

DEFAULT_DATABASE_URL = "sqlite:///.fleet/payments.db"
"""Ledger of a developer's machine; relative to the working directory."""


class PaymentSettings(BaseSettings):
    """Where the ledger lives and how the simulated gateway behaves."""

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_", frozen=True, extra="forbid")

    database_url: SecretStr = SecretStr(DEFAULT_DATABASE_URL)
    """Database of the ledger: ``sqlite:///PATH`` or ``postgresql://USER:PASSWORD@HOST/NAME``.
    SQLite is for one machine; workers on several need PostgreSQL."""
    currency: str = Field(default="EUR", pattern=r"^[A-Z]{3}$")
    """The one currency of the ledger, as an ISO 4217 code; other charges are refused."""
    pool_size: Annotated[int, Field(ge=1, le=200)] | None = None
    """Database connections of one worker process. None means one for each activity that can run at
    a time, at most 20 for PostgreSQL (its servers allow 100 by default, shared by all pods) and 4
    for SQLite (it has one writer)."""
    pool_timeout: timedelta = timedelta(seconds=10)
    """Longest wait for a free connection of the pool. It fires before the activities' own timeout,
    so that the error names the pool."""
    lock_timeout: timedelta = timedelta(seconds=10)
    """Longest wait for a lock that another process holds on the database."""
    gateway_latency: timedelta = timedelta(milliseconds=10)
    """How long the simulated gateway takes to answer."""
    gateway_overload_delay: timedelta = timedelta(milliseconds=500)
    """How long an overloaded gateway asks its callers to stay away."""

    @field_validator("database_url")
    @classmethod
    def _refuse_other_databases(cls, value: SecretStr) -> SecretStr:
        parse_database_url(value)
        return value
