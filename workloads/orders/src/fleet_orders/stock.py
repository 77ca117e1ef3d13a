"""The stock: how much of each product is left, and what is reserved for which order.

A file written with the standard library's blocking SQLite driver, used from activities in threads.
Every operation is one transaction and is safe to repeat: reservations are known by their order.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

from fleet_orders.models import OrderLine

CATALOGUE = {
    "mug": 1_000_000,
    "notebook": 1_000_000,
    "poster": 1_000_000,
    "t-shirt": 1_000_000,
    "backpack": 1_000_000,
    "limited-print": 0,
}
"""Products of the shop and how many there are of each when the stock is new."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS stock (
    sku TEXT PRIMARY KEY,
    delivered INTEGER NOT NULL,
    available INTEGER NOT NULL CHECK (available >= 0)
);
CREATE TABLE IF NOT EXISTS reservations (
    order_id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'released'))
);
CREATE TABLE IF NOT EXISTS reserved_lines (
    order_id TEXT NOT NULL REFERENCES reservations,
    sku TEXT NOT NULL REFERENCES stock,
    quantity INTEGER NOT NULL CHECK (quantity > 0)
);
CREATE INDEX IF NOT EXISTS reserved_lines_by_order ON reserved_lines (order_id);
"""


class OutOfStockError(Exception):
    """There is less of a product than was ordered, or the shop does not have it at all."""


class AlreadyReleasedError(Exception):
    """The reservation of the order was given back before; it cannot come back."""


class Stock:
    """The stock in an SQLite file that several processes of one machine may use.

    Args:
        path: The file; made with its directory when it is not there.
        lock_timeout: Longest wait for a lock that another process holds.
    """

    def __init__(self, path: Path, *, lock_timeout: timedelta = timedelta(seconds=10)) -> None:
        self._path = path
        self._lock_timeout = lock_timeout

    def open(self) -> None:
        """Create what is not there; any number of processes may do so at once."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._connect()) as connection:
            self._use_write_ahead_log(connection)
        with self._transaction() as connection:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.executemany(
                "INSERT OR IGNORE INTO stock VALUES (?, ?, ?)",
                [(sku, amount, amount) for sku, amount in CATALOGUE.items()],
            )

    def check(self) -> None:
        """Ask the file for an answer; raises what SQLite raises when there is none."""
        with closing(self._connect()) as connection:
            connection.execute("SELECT 1 FROM stock LIMIT 1")

    def reserve(self, order_id: str, lines: Sequence[OrderLine]) -> None:
        """Take the lines of an order out of the stock, all or none, once for each order.

        Raises:
            OutOfStockError: When one of them is not there in this quantity.
            AlreadyReleasedError: When the order gave its reservation back before.
        """
        with self._transaction() as connection:
            state = self._state(connection, order_id)
            if state == "reserved":
                return
            if state == "released":
                raise AlreadyReleasedError(f"the reservation of {order_id!r} was given back")
            connection.execute("INSERT INTO reservations VALUES (?, 'reserved')", [order_id])
            for line in lines:
                self._take(connection, order_id, line)

    def release(self, order_id: str) -> None:
        """Give back what is reserved for an order; without a reservation, make one impossible."""
        with self._transaction() as connection:
            if self._state(connection, order_id) == "reserved":
                connection.execute(
                    "UPDATE stock SET available = available + (SELECT SUM(quantity) "
                    "FROM reserved_lines AS line WHERE line.sku = stock.sku AND order_id = :order) "
                    "WHERE sku IN (SELECT sku FROM reserved_lines WHERE order_id = :order)",
                    {"order": order_id},
                )
            connection.execute(
                "INSERT INTO reservations VALUES (?, 'released') "
                "ON CONFLICT (order_id) DO UPDATE SET state = 'released'",
                [order_id],
            )

    def problems(self) -> list[str]:
        """Return every product whose available and reserved items are not what was delivered."""
        with closing(self._connect()) as connection:
            rows = connection.execute(
                "SELECT sku, delivered, available, COALESCE((SELECT SUM(quantity) "
                "FROM reserved_lines AS line JOIN reservations USING (order_id) "
                "WHERE line.sku = stock.sku AND state = 'reserved'), 0) FROM stock"
            ).fetchall()
        return [
            f"{sku}: {delivered} delivered, {available} available and {reserved} reserved"
            for sku, delivered, available, reserved in rows
            if delivered != available + reserved
        ]

    def reserved_for(self, order_id: str) -> dict[str, int]:
        """Return what is reserved for an order, as quantity by product; empty when nothing is."""
        with closing(self._connect()) as connection:
            if self._state(connection, order_id) != "reserved":
                return {}
            rows = connection.execute(
                "SELECT sku, SUM(quantity) FROM reserved_lines WHERE order_id = ? GROUP BY sku",
                [order_id],
            )
            return dict(rows.fetchall())

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._lock_timeout.total_seconds(), isolation_level=None
        )
        # With a write-ahead log a commit needs no flush of the disk, and the death of this process
        # loses nothing.
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _use_write_ahead_log(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self._lock_timeout.total_seconds()
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            # SQLite's own lock timeout does not cover this statement.
            except sqlite3.OperationalError as error:
                if time.monotonic() > deadline:
                    seconds = self._lock_timeout.total_seconds()
                    error.add_note(f"{self._path} stayed locked for {seconds} s (lock timeout)")
                    raise
            time.sleep(0.02)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @staticmethod
    def _state(connection: sqlite3.Connection, order_id: str) -> str | None:
        row = connection.execute(
            "SELECT state FROM reservations WHERE order_id = ?", [order_id]
        ).fetchone()
        return row[0] if row else None

    @staticmethod
    def _take(connection: sqlite3.Connection, order_id: str, line: OrderLine) -> None:
        taken = connection.execute(
            "UPDATE stock SET available = available - ? WHERE sku = ? AND available >= ?",
            [line.quantity, line.sku, line.quantity],
        )
        if not taken.rowcount:
            raise OutOfStockError(f"{line.quantity} of {line.sku!r} are not in stock")
        connection.execute(
            "INSERT INTO reserved_lines VALUES (?, ?, ?)", [order_id, line.sku, line.quantity]
        )
