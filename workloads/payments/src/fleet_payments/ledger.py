"""The double-entry ledger: what was asked for, how far it came, and every amount booked twice.

A payment is written as *pending* before the gateway hears of it and is *settled* together with its
two entries in one database transaction. A crash at any point leaves a pending payment, which the
next attempt brings to its end with the same key. Nothing here talks to the gateway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from fleet_payments.database import entries, insert_missing, payments, transactions
from fleet_payments.models import ChargeRequest, PaymentStatus, Receipt, RefundRequest


class IdempotencyConflictError(Exception):
    """A key was used again for something else."""


class RefundTooLargeError(Exception):
    """More was asked back than is left of the charge."""


@dataclass(frozen=True)
class Payment:
    """A charge or refund as the ledger knows it."""

    idempotency_key: str
    kind: Literal["charge", "refund"]
    status: PaymentStatus
    customer: str
    requested_minor: int | None
    amount_minor: int
    currency: str
    charge_key: str | None
    gateway_reference: str | None
    reason: str | None

    @property
    def receipt(self) -> Receipt:
        """The receipt of this payment."""
        return Receipt(
            idempotency_key=self.idempotency_key,
            status=self.status,
            amount_minor=self.amount_minor,
            currency=self.currency,
            gateway_reference=self.gateway_reference,
        )


class Ledger:
    """Writes payments; every method is one database transaction and may be repeated.

    Args:
        engine: Database with the schema of :mod:`fleet_payments.database`.
        currency: The ledger's one currency.
    """

    def __init__(self, engine: AsyncEngine, currency: str) -> None:
        self._engine = engine
        self.currency = currency

    async def ping(self) -> None:
        """Ask the database for an answer; raises what the driver raises when there is none."""
        async with self._engine.connect() as connection:
            await connection.execution_options(ledger_read_only=True)
            await connection.execute(text("SELECT 1"))

    async def find(self, key: str) -> Payment | None:
        """Return the payment with this idempotency key; None when there is none."""
        async with self._engine.connect() as connection:
            await connection.execution_options(ledger_read_only=True)
            row = (await connection.execute(_by_key(key))).one_or_none()
            return _payment(row) if row else None

    async def begin_charge(self, request: ChargeRequest) -> Payment:
        """Write down a charge as pending, unless its key is known.

        Returns:
            The payment with the request's key, however far it has come.

        Raises:
            IdempotencyConflictError: When the key is known for something else.
        """
        async with self._engine.begin() as connection:
            await insert_missing(connection, payments, [_charge_row(request, self.currency)])
            known = await _lock(connection, request.idempotency_key)
        if known.status is PaymentStatus.VOIDED and known.requested_minor is None:
            return known  # voided before it was asked for: there is nothing to compare
        _refuse_other_use(
            known,
            kind="charge",
            requested_minor=request.amount_minor,
            customer=request.customer,
        )
        return known

    async def find_or_void_charge(self, charge_key: str) -> Payment:
        """Return the charge; one that nobody asked for yet is voided and cannot come late."""
        async with self._engine.begin() as connection:
            await insert_missing(connection, payments, [_voided_row(charge_key, self.currency)])
            return await _lock(connection, charge_key)

    async def begin_refund(self, request: RefundRequest) -> Payment:
        """Write down a refund as pending, or as voided when there is no money to give back.

        Args:
            request: Its charge must be in the ledger and no longer pending.

        Returns:
            The payment with the request's key, however far it has come.

        Raises:
            IdempotencyConflictError: When the key is known for something else.
            RefundTooLargeError: When less than the amount is left of the charge.
        """
        async with self._engine.begin() as connection:
            # The lock on the charge makes refunds of one charge wait for each other.
            charge = await _lock(connection, request.charge_key)
            known = (await connection.execute(_by_key(request.idempotency_key))).one_or_none()
            if known is None:
                left = await _left_of(connection, charge)
                row = _refund_row(request, charge, left)
                await connection.execute(insert(payments).values(row))
                return Payment(**row)
        payment = _payment(known)
        _refuse_other_use(
            payment,
            kind="refund",
            requested_minor=request.amount_minor,
            charge_key=request.charge_key,
        )
        return payment

    async def settle(self, key: str, gateway_reference: str) -> Payment:
        """Book the money of a pending payment; one that is not pending stays as it is.

        Args:
            key: Idempotency key of the payment.
            gateway_reference: The gateway's number of the capture or refund.
        """
        async with self._engine.begin() as connection:
            payment = await _lock(connection, key)
            if payment.status is not PaymentStatus.PENDING:
                return payment
            await _book(connection, payment)
            return await _close(connection, key, PaymentStatus.SETTLED, gateway_reference, None)

    async def close(self, key: str, status: PaymentStatus, reason: str) -> Payment:
        """End a pending payment without money; one that is not pending stays as it is.

        Args:
            key: Idempotency key of the payment.
            status: ``DECLINED`` or ``VOIDED``.
            reason: Why, for people.
        """
        async with self._engine.begin() as connection:
            payment = await _lock(connection, key)
            if payment.status is not PaymentStatus.PENDING:
                return payment
            return await _close(connection, key, status, None, reason)


def _by_key(key: str) -> Any:
    return select(payments).where(payments.c.idempotency_key == key)


def _payment(row: Any) -> Payment:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    return Payment(**values | {"status": PaymentStatus(values["status"])})


async def _lock(connection: AsyncConnection, key: str) -> Payment:
    return _payment((await connection.execute(_by_key(key).with_for_update())).one())


async def _close(
    connection: AsyncConnection,
    key: str,
    status: PaymentStatus,
    reference: str | None,
    reason: str | None,
) -> Payment:
    await connection.execute(
        update(payments)
        .where(payments.c.idempotency_key == key)
        .values(status=status.value, gateway_reference=reference, reason=reason)
    )
    return _payment((await connection.execute(_by_key(key))).one())


async def _book(connection: AsyncConnection, payment: Payment) -> None:
    """Write the transaction of a payment: one account gains what the other loses."""
    result = await connection.execute(
        insert(transactions).values(payment_key=payment.idempotency_key)
    )
    (transaction,) = result.inserted_primary_key or (None,)
    amount = payment.amount_minor
    if payment.kind == "charge":
        amounts = {"gateway_clearing": amount, "sales": -amount}
    else:
        amounts = {"refunds": amount, "gateway_clearing": -amount}
    await connection.execute(
        insert(entries),
        [
            {"transaction_id": transaction, "account": account, "amount_minor": minor}
            for account, minor in amounts.items()
        ],
    )


async def _left_of(connection: AsyncConnection, charge: Payment) -> int:
    if charge.status is not PaymentStatus.SETTLED:
        return 0
    refunds = select(func.coalesce(func.sum(payments.c.amount_minor), 0)).where(
        payments.c.charge_key == charge.idempotency_key
    )
    return charge.amount_minor - int((await connection.execute(refunds)).scalar_one())


def _refuse_other_use(known: Payment, **asked: object) -> None:
    for name, value in asked.items():
        if getattr(known, name) != value:
            raise IdempotencyConflictError(
                f"idempotency key {known.idempotency_key!r} was used before with another "
                f"{name.removesuffix('_minor').replace('_', ' ')}: "
                f"{getattr(known, name)!r}, now {value!r}. Use a new key for a new operation"
            )


def _charge_row(request: ChargeRequest, currency: str) -> dict[str, object]:
    return {
        "idempotency_key": request.idempotency_key,
        "kind": "charge",
        "status": PaymentStatus.PENDING.value,
        "customer": request.customer,
        "requested_minor": request.amount_minor,
        "amount_minor": request.amount_minor,
        "currency": currency,
    }


def _voided_row(charge_key: str, currency: str) -> dict[str, object]:
    return {
        "idempotency_key": charge_key,
        "kind": "charge",
        "status": PaymentStatus.VOIDED.value,
        "customer": "",
        "requested_minor": None,
        "amount_minor": 0,
        "currency": currency,
        "reason": "voided before it was asked for",
    }


def _refund_row(request: RefundRequest, charge: Payment, left: int) -> dict[str, Any]:
    moved = charge.status is PaymentStatus.SETTLED
    amount = left if request.amount_minor is None else request.amount_minor
    if moved and amount > left:
        raise RefundTooLargeError(
            f"refund {request.idempotency_key!r} asks for {amount} of charge "
            f"{request.charge_key!r}, of which {left} are left (minor units)"
        )
    nothing = not moved or amount == 0
    return {
        "idempotency_key": request.idempotency_key,
        "kind": "refund",
        "status": PaymentStatus.VOIDED if nothing else PaymentStatus.PENDING,
        "customer": charge.customer,
        "requested_minor": request.amount_minor,
        "amount_minor": 0 if nothing else amount,
        "currency": charge.currency,
        "charge_key": request.charge_key,
        "gateway_reference": None,
        "reason": "the charge took no money" if not moved else None,
    }
