"""The audit: whether the books add up, asked of the database, not of the code that wrote them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from pydantic import SecretStr
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from fleet_payments.database import (
    build_engine,
    create_schema,
    entries,
    gateway_operations,
    parse_database_url,
    payments,
    transactions,
)
from fleet_payments.models import Books

_LOCK_TIMEOUT = timedelta(seconds=10)


async def books(database_url: SecretStr | str, currency: str = "EUR") -> Books:
    """Open the ledger's database and audit it.

    Args:
        database_url: As in ``PAYMENTS_DATABASE_URL``.
        currency: The ledger's currency, only to name it.

    Returns:
        Sums of all settled charges and refunds, with every problem found.

    Raises:
        ValueError: When the URL is not one of a supported database.
    """
    secret = SecretStr(database_url) if isinstance(database_url, str) else database_url
    engine = build_engine(
        parse_database_url(secret),
        pool_size=1,
        pool_timeout=_LOCK_TIMEOUT,
        lock_timeout=_LOCK_TIMEOUT,
    )
    try:
        await create_schema(engine, _LOCK_TIMEOUT)
        return await read_books(engine, currency)
    finally:
        await engine.dispose()


async def read_books(engine: AsyncEngine, currency: str) -> Books:
    """Audit an open database while others may be writing to it; see :func:`books`."""
    options: dict[str, Any] = {"ledger_read_only": True}
    if engine.dialect.name == "postgresql":
        # All sums must be of the same moment; SQLite's read transactions are anyway.
        options["isolation_level"] = "REPEATABLE READ"
    async with engine.connect() as connection:
        await connection.execution_options(**options)
        charges, captured = await _settled(connection, "charge")
        refunds, refunded = await _settled(connection, "refund")
        clearing = await _balance(connection, "gateway_clearing")
        problems = [problem async for problem in _problems(connection)]
        problems += _differences(
            {
                "account gateway_clearing": (clearing, captured - refunded),
                "account sales": (await _balance(connection, "sales"), -captured),
                "account refunds": (await _balance(connection, "refunds"), refunded),
            }
        )
        return Books(
            currency=currency,
            charges=charges,
            refunds=refunds,
            pending=await _count(connection, payments.c.status == "pending"),
            captured_minor=captured,
            refunded_minor=refunded,
            net_minor=clearing,
            problems=problems,
        )


async def _settled(connection: AsyncConnection, kind: str) -> tuple[int, int]:
    amount = func.coalesce(func.sum(payments.c.amount_minor), 0)
    query = select(func.count(), amount).where(
        payments.c.kind == kind, payments.c.status == "settled"
    )
    count, total = (await connection.execute(query)).one()
    return int(count), int(total)


async def _balance(connection: AsyncConnection, account: str) -> int:
    query = select(func.coalesce(func.sum(entries.c.amount_minor), 0)).where(
        entries.c.account == account
    )
    return int((await connection.execute(query)).scalar_one())


async def _count(connection: AsyncConnection, condition: Any) -> int:
    query = select(func.count()).select_from(payments).where(condition)
    return int((await connection.execute(query)).scalar_one())


def _differences(expected: dict[str, tuple[int, int]]) -> list[str]:
    return [
        f"{name} holds {found}, the payments say {wanted} (minor units)"
        for name, (found, wanted) in expected.items()
        if found != wanted
    ]


_CHECKS = {
    "ledger transaction {} does not add up to 0": (
        select(entries.c.transaction_id)
        .group_by(entries.c.transaction_id)
        .having(func.sum(entries.c.amount_minor) != 0)
    ),
    "payment {} is settled but not booked": (
        select(payments.c.idempotency_key)
        .outerjoin(transactions, transactions.c.payment_key == payments.c.idempotency_key)
        .where(payments.c.status == "settled", transactions.c.id.is_(None))
    ),
    "payment {} is booked but not settled": (
        select(payments.c.idempotency_key)
        .join(transactions, transactions.c.payment_key == payments.c.idempotency_key)
        .where(payments.c.status != "settled")
    ),
    "charge {} was given back more than it took": (
        select(payments.c.idempotency_key)
        .join(
            refunds := payments.alias("refunds"),
            refunds.c.charge_key == payments.c.idempotency_key,
        )
        .where(refunds.c.status == "settled")
        .group_by(payments.c.idempotency_key, payments.c.amount_minor)
        .having(func.sum(refunds.c.amount_minor) > payments.c.amount_minor)
    ),
    "payment {} is settled but the gateway moved another amount": (
        select(payments.c.idempotency_key)
        .outerjoin(
            gateway_operations,
            (gateway_operations.c.key == payments.c.idempotency_key)
            & (gateway_operations.c.outcome == "done"),
        )
        .where(
            payments.c.status == "settled",
            func.coalesce(gateway_operations.c.amount_minor, -1) != payments.c.amount_minor,
        )
    ),
    "the gateway moved money for {}, which the ledger does not know": (
        select(gateway_operations.c.key)
        .outerjoin(
            payments,
            (payments.c.idempotency_key == gateway_operations.c.key)
            # A pending one is on its way: the next attempt settles it.
            & payments.c.status.in_(("settled", "pending")),
        )
        .where(gateway_operations.c.outcome == "done", payments.c.idempotency_key.is_(None))
    ),
}
"""Problem text to the query that finds what is wrong with it."""


async def _problems(connection: AsyncConnection) -> AsyncIterator[str]:
    for problem, query in _CHECKS.items():
        for (subject,) in await connection.execute(query):
            yield problem.format(subject)
