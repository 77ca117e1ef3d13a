"""The ledger's database: tables, engine and the first creation of the schema.

Two databases are supported, with one schema. SQLite is a file that several processes of one machine
may write; PostgreSQL is for everything else. Both must give the same promises, so every write
transaction takes its locks at its beginning.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    event,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection

LEDGER_ACCOUNTS = ("gateway_clearing", "sales", "refunds")
"""Accounts of the double-entry ledger: money held at the gateway, income, income given back."""

metadata = MetaData()

accounts = Table("accounts", metadata, Column("name", String(40), primary_key=True))

payments = Table(
    "payments",
    metadata,
    Column("idempotency_key", String(200), primary_key=True),
    Column("kind", String(10), nullable=False),
    Column("status", String(10), nullable=False),
    Column("customer", String(200), nullable=False),
    # What the caller named, to recognise the same key with another amount; null when none was
    # named.
    Column("requested_minor", BigInteger),
    # What moves; 0 for a charge that was voided before it was asked for, and for its refund.
    Column("amount_minor", BigInteger, CheckConstraint("amount_minor >= 0"), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("charge_key", String(200), ForeignKey("payments.idempotency_key")),
    Column("gateway_reference", String(80)),
    Column("reason", String(200)),
    Index("payments_by_charge", "charge_key"),
)

transactions = Table(
    "transactions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    # One ledger transaction for each payment: money cannot be booked twice, whatever the code does.
    Column(
        "payment_key",
        String(200),
        ForeignKey("payments.idempotency_key"),
        unique=True,
        nullable=False,
    ),
)

entries = Table(
    "entries",
    metadata,
    Column("transaction_id", Integer, ForeignKey("transactions.id"), primary_key=True),
    Column("account", String(40), ForeignKey("accounts.name"), primary_key=True),
    # Debits are positive and credits negative, so that a transaction's entries add up to 0.
    Column("amount_minor", BigInteger, CheckConstraint("amount_minor <> 0"), nullable=False),
)

gateway_operations = Table(
    "simulated_gateway_operations",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("kind", String(10), nullable=False),
    Column("outcome", String(10), nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
)
"""What the simulated gateway remembers. The ledger never reads it; only the audit compares the
two."""

_SCHEMA_LOCK = 7_203_317_001  # any number that no other program takes as a PostgreSQL advisory lock
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_DRIVERS |= {"postgres": _DRIVERS["postgresql"]} | {driver: driver for driver in _DRIVERS.values()}


def parse_database_url(database_url: SecretStr) -> URL:
    """Return the URL with the driver that the ledger uses.

    Args:
        database_url: ``sqlite:///PATH`` or ``postgresql://…``.

    Raises:
        ValueError: When it is no URL, or of another database. The message never holds the password.
    """
    cure = "Use sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"
    try:
        url = make_url(database_url.get_secret_value())
    except ArgumentError as error:
        raise ValueError(f"it is not a database URL. {cure}") from error
    if url.drivername not in _DRIVERS:
        raise ValueError(f"{url.drivername!r} is not supported. {cure}")
    url = url.set(drivername=_DRIVERS[url.drivername])
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ValueError(f"the ledger must be a file, to survive a crash. {cure}")
    return url


def build_engine(
    url: URL, *, pool_size: int, pool_timeout: timedelta, lock_timeout: timedelta
) -> AsyncEngine:
    """Return the engine of the ledger; no connection is opened yet.

    Args:
        url: From :func:`parse_database_url`.
        pool_size: Connections that this process may hold.
        pool_timeout: Longest wait for one of them.
        lock_timeout: Longest wait for a lock of another process.
    """
    pool: dict[str, Any] = {
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": pool_timeout.total_seconds(),
    }
    if url.get_backend_name() == "sqlite":
        Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(
            url,
            connect_args={"timeout": lock_timeout.total_seconds()},
            hide_parameters=True,  # customers and cards stay out of error messages
            **pool,
        )
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    milliseconds = str(int(lock_timeout.total_seconds() * 1000))
    return create_async_engine(
        url,
        # A restarted database server leaves dead connections in the pool; each is tested before
        # use.
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"server_settings": {"lock_timeout": milliseconds}},
        **pool,
    )


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin transactions by itself, and late; _begin_sqlite does it at the start.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    # With a write-ahead log a commit needs no flush of the disk; a crash of the process loses
    # nothing.
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that starts as a reader and then writes fails at once when another process wrote
    # in between, however long the lock timeout is; one that starts as a writer waits.
    read_only = connection.get_execution_options().get("ledger_read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


async def create_schema(engine: AsyncEngine, lock_timeout: timedelta) -> None:
    """Create the tables and accounts that are not there; any number of processes may do so at once.

    Args:
        engine: From :func:`build_engine`.
        lock_timeout: Longest wait for another process that creates the same file.
    """
    if engine.dialect.name == "sqlite":
        await asyncio.to_thread(_use_write_ahead_log, engine.url.database or "", lock_timeout)
    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})"))
        await connection.run_sync(metadata.create_all)
        await insert_missing(connection, accounts, [{"name": name} for name in LEDGER_ACCOUNTS])


def _use_write_ahead_log(path: str, lock_timeout: timedelta) -> None:
    deadline = time.monotonic() + lock_timeout.total_seconds()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            # SQLite's own lock timeout does not cover this statement: seen in 4 of 320 openings of
            # a new file by 8 processes at once.
            except sqlite3.OperationalError as error:
                if time.monotonic() > deadline:
                    seconds = lock_timeout.total_seconds()
                    error.add_note(
                        f"{path} stayed locked for PAYMENTS_LOCK_TIMEOUT_SECONDS ({seconds})"
                    )
                    raise
            time.sleep(0.02)


async def insert_missing(
    connection: AsyncConnection, table: Table, rows: list[dict[str, object]]
) -> bool:
    """Insert rows whose keys are not there yet.

    Returns:
        Whether at least one row was inserted.
    """
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        result = await connection.execute(
            insert_postgresql(table).values(rows).on_conflict_do_nothing()
        )
    else:
        from sqlalchemy.dialects.sqlite import insert as insert_sqlite

        result = await connection.execute(
            insert_sqlite(table).values(rows).on_conflict_do_nothing()
        )
    return bool(result.rowcount)
