"""The stock's database: tables, engine and the first creation of the schema.

One schema serves SQLite, for the processes of one machine, and PostgreSQL, for everything else. The
drivers block, as most drivers do; the activities that use them run in threads.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from sqlalchemy import (
    CheckConstraint,
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection

metadata = MetaData()

stock = Table(
    "stock",
    metadata,
    Column("sku", String(200), primary_key=True),
    Column("delivered", Integer, nullable=False),
    # The database itself refuses to sell what is not there, whatever the code does.
    Column("available", Integer, CheckConstraint("available >= 0"), nullable=False),
)

reservations = Table(
    "reservations",
    metadata,
    Column("order_id", String(200), primary_key=True),
    Column(
        "state", String(10), CheckConstraint("state IN ('reserved', 'released')"), nullable=False
    ),
)

reserved_lines = Table(
    "reserved_lines",
    metadata,
    Column("order_id", String(200), ForeignKey("reservations.order_id"), primary_key=True),
    Column("sku", String(200), ForeignKey("stock.sku"), primary_key=True),
    Column("quantity", Integer, CheckConstraint("quantity > 0"), nullable=False),
)

WRITES = "stock_writes"
"""Execution option of a connection whose transaction is going to write."""

_SCHEMA_LOCK = 7_203_317_002  # another number than any other program's PostgreSQL advisory lock
_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
}


def parse_database_url(database_url: SecretStr) -> URL:
    """Return the URL with the driver that the stock uses.

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
    if url.drivername == "sqlite" and url.database in (None, "", ":memory:"):
        raise ValueError(f"all orders workers must see one stock, so it must be a file. {cure}")
    return url.set(drivername=_DRIVERS[url.drivername])


def build_engine(
    url: URL, *, pool_size: int, pool_timeout: timedelta, lock_timeout: timedelta
) -> Engine:
    """Return the engine of the stock; no connection is opened yet.

    Args:
        url: From :func:`parse_database_url`.
        pool_size: Connections that this process may hold.
        pool_timeout: Longest wait for one of them, or for a new one to be made.
        lock_timeout: Longest wait for a lock of another process.
    """
    driver: dict[str, Any]
    if url.get_backend_name() == "sqlite":
        Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
        driver = {"timeout": lock_timeout.total_seconds()}
    else:
        milliseconds = int(lock_timeout.total_seconds() * 1000)
        driver = {
            "connect_timeout": max(1, round(pool_timeout.total_seconds())),
            "options": f"{url.query.get('options', '')} -c lock_timeout={milliseconds}".strip(),
        }
    engine = create_engine(
        url,
        connect_args=driver,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout.total_seconds(),
        # A restarted server leaves dead connections in the pool; each is tested before use.
        pool_pre_ping=url.get_backend_name() == "postgresql",
        hide_parameters=True,
    )
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # _begin_sqlite says when a transaction begins
    # With a write-ahead log a commit needs no flush of the disk, and the death of this process
    # loses nothing.
    connection.execute("PRAGMA synchronous = NORMAL")


def _begin_sqlite(connection: Connection) -> None:
    # A reader that begins to write fails at once when another process wrote in between, whatever
    # the lock timeout is; who begins as a writer waits.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def create_schema(connection: Connection) -> None:
    """Create the tables that are not there; any number of processes may do so at once.

    Args:
        connection: In a transaction that writes.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})"))
    metadata.create_all(connection)


def use_write_ahead_log(path: str, lock_timeout: timedelta) -> None:
    """Let readers and one writer of an SQLite file work at the same time.

    Args:
        path: The file; made when it is not there.
        lock_timeout: Longest wait for another process that does the same.
    """
    deadline = time.monotonic() + lock_timeout.total_seconds()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            # SQLite's own lock timeout does not cover this statement.
            except sqlite3.OperationalError as error:
                if time.monotonic() > deadline:
                    seconds = lock_timeout.total_seconds()
                    error.add_note(
                        f"{path} stayed locked for ORDERS_LOCK_TIMEOUT_SECONDS ({seconds})"
                    )
                    raise
            time.sleep(0.02)


def insert_missing(connection: Connection, table: Table, *rows: Mapping[str, object]) -> bool:
    """Insert rows whose keys are not there yet.

    Returns:
        Whether at least one row was inserted.
    """
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        statement: Any = insert_postgresql(table)
    else:
        from sqlalchemy.dialects.sqlite import insert as insert_sqlite

        statement = insert_sqlite(table)
    statement = statement.values(rows).on_conflict_do_nothing()
    # Not the row count: SQLAlchemy promises one for updates and deletes only.
    return bool(connection.execute(statement.returning(*table.primary_key)).all())
