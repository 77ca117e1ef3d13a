"""The stock: how much of each product is left, and what is reserved for which order.

Every operation is one transaction and is safe to repeat: reservations are known by their order.
Orders lock products in the order of their names, so that no two wait for each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

from pydantic import SecretStr
from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from fleet_orders.models import OrderLine
from fleet_orders.stock_database import (
    WRITES,
    build_engine,
    create_schema,
    insert_missing,
    parse_database_url,
    reservations,
    reserved_lines,
    stock,
    use_write_ahead_log,
)

CATALOGUE = {
    "mug": 1_000_000,
    "notebook": 1_000_000,
    "poster": 1_000_000,
    "t-shirt": 1_000_000,
    "backpack": 1_000_000,
    "limited-print": 0,
}
"""Products of the shop and how many there are of each when the stock is new."""


class OutOfStockError(Exception):
    """There is less of a product than was ordered, or the shop does not have it at all."""


class AlreadyReleasedError(Exception):
    """The reservation of the order was given back before; it cannot come back."""


class StockUnavailableError(Exception):
    """The database did not answer, or another process held its locks for too long."""


class Stock:
    """The stock in a database that any number of processes may use; every method blocks.

    Args:
        database_url: ``sqlite:///PATH`` or ``postgresql://…``.
        pool_size: Connections that this process may hold.
        pool_timeout: Longest wait for one of them, or for a new one to be made.
        lock_timeout: Longest wait for a lock that another process holds.

    Raises:
        ValueError: When the URL is not one of a supported database.
    """

    def __init__(
        self,
        database_url: SecretStr | str,
        *,
        pool_size: int = 4,
        pool_timeout: timedelta = timedelta(seconds=10),
        lock_timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        secret = SecretStr(database_url) if isinstance(database_url, str) else database_url
        self._pool_timeout = pool_timeout
        self._lock_timeout = lock_timeout
        self._engine = build_engine(
            parse_database_url(secret),
            pool_size=pool_size,
            pool_timeout=pool_timeout,
            lock_timeout=lock_timeout,
        )

    def open(self, catalogue: Mapping[str, int] = CATALOGUE) -> None:
        """Create what is not there; any number of processes may do so at once.

        Args:
            catalogue: Products and amounts of a new stock; products that are there are left alone.

        Raises:
            StockUnavailableError: When the database does not answer.
        """
        if self._engine.dialect.name == "sqlite":
            use_write_ahead_log(self._engine.url.database or "", self._lock_timeout)
        with self._transaction(writes=True) as connection:
            create_schema(connection)
            insert_missing(
                connection,
                stock,
                *(
                    {"sku": sku, "delivered": amount, "available": amount}
                    for sku, amount in catalogue.items()
                ),
            )

    def close(self) -> None:
        """Close all connections; one that is needed later is made anew."""
        self._engine.dispose()

    def check(self) -> None:
        """Ask the database for an answer; raises ``StockUnavailableError`` when there is none."""
        with self._transaction() as connection:
            connection.execute(text("SELECT 1 FROM stock LIMIT 1"))

    def reserve(self, order_id: str, lines: Sequence[OrderLine]) -> None:
        """Take the lines of an order out of the stock, all or none, once for each order.

        Raises:
            OutOfStockError: When one of them is not there in this quantity.
            AlreadyReleasedError: When the order gave its reservation back before.
            StockUnavailableError: When the database does not answer; nothing was taken.
        """
        wanted: Counter[str] = Counter()
        for line in lines:
            wanted[line.sku] += line.quantity
        with self._transaction(writes=True) as connection:
            row = {"order_id": order_id, "state": "reserved"}
            if insert_missing(connection, reservations, row):
                for sku, quantity in sorted(wanted.items()):
                    _take(connection, order_id, sku, quantity)
            elif _state(connection, order_id) == "released":
                raise AlreadyReleasedError(f"the reservation of {order_id!r} was given back")

    def release(self, order_id: str) -> None:
        """Give back what is reserved for an order; without a reservation, make one impossible.

        Raises:
            StockUnavailableError: When the database does not answer; nothing was given back.
        """
        with self._transaction(writes=True) as connection:
            row = {"order_id": order_id, "state": "released"}
            if insert_missing(connection, reservations, row):
                return
            released = connection.execute(
                update(reservations)
                .where(reservations.c.order_id == order_id, reservations.c.state == "reserved")
                .values(state="released")
            )
            if released.rowcount:
                for sku, quantity in sorted(_lines(connection, order_id).items()):
                    connection.execute(
                        update(stock)
                        .where(stock.c.sku == sku)
                        .values(available=stock.c.available + quantity)
                    )

    def problems(self) -> list[str]:
        """Return every product whose available and reserved items are not what was delivered."""
        reserved = (
            select(func.coalesce(func.sum(reserved_lines.c.quantity), 0))
            .join_from(reserved_lines, reservations)
            .where(reserved_lines.c.sku == stock.c.sku, reservations.c.state == "reserved")
            .scalar_subquery()
        )
        columns = (stock.c.sku, stock.c.delivered, stock.c.available, reserved)
        with self._transaction() as connection:
            rows = connection.execute(select(*columns)).all()
        return [
            f"{sku}: {delivered} delivered, {available} available and {held} reserved"
            for sku, delivered, available, held in rows
            if delivered != available + held
        ]

    def reserved_for(self, order_id: str) -> dict[str, int]:
        """Return what is reserved for an order, as quantity by product; empty when nothing is."""
        with self._transaction() as connection:
            if _state(connection, order_id) != "reserved":
                return {}
            return _lines(connection, order_id)

    @contextmanager
    def _transaction(self, *, writes: bool = False) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                connection.execution_options(**{WRITES: writes})
                with connection.begin():
                    yield connection
        except OperationalError as error:
            reason = " ".join(str(error.orig).split())
            if "lock" in reason:
                reason += f", after {_in_seconds(self._lock_timeout)} (ORDERS_LOCK_TIMEOUT_SECONDS)"
            raise StockUnavailableError(
                f"the stock's database (ORDERS_DATABASE_URL) failed: {reason}"
            ) from error
        except PoolTimeoutError as error:
            raise StockUnavailableError(
                f"no connection to the stock's database got free within "
                f"{_in_seconds(self._pool_timeout)} (ORDERS_POOL_TIMEOUT_SECONDS). Raise "
                "ORDERS_POOL_SIZE, or run fewer activities at a time"
            ) from error


def _in_seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():g} s"


def _state(connection: Connection, order_id: str) -> str | None:
    query = select(reservations.c.state).where(reservations.c.order_id == order_id)
    return connection.execute(query).scalar_one_or_none()


def _lines(connection: Connection, order_id: str) -> dict[str, int]:
    query = select(reserved_lines.c.sku, reserved_lines.c.quantity)
    rows = connection.execute(query.where(reserved_lines.c.order_id == order_id))
    return {row.sku: row.quantity for row in rows}


def _take(connection: Connection, order_id: str, sku: str, quantity: int) -> None:
    # Decided by the statement that takes, not by a look before it: two orders may take at once.
    taken = connection.execute(
        update(stock)
        .where(stock.c.sku == sku, stock.c.available >= quantity)
        .values(available=stock.c.available - quantity)
    )
    if not taken.rowcount:
        raise OutOfStockError(f"{quantity} of {sku!r} are not in stock")
    connection.execute(insert(reserved_lines).values(order_id=order_id, sku=sku, quantity=quantity))
