"""Activities of the payments task queue.

Each is safe to run again after a crash at any point: the ledger and the gateway both know
operations by their keys, so the next attempt goes on where the last one ended. Errors have stable
types; workflows may rely on them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from fleet_payments.audit import read_books
from fleet_payments.gateway import CardDeclinedError, Gateway, GatewayOverloadedError
from fleet_payments.ledger import (
    IdempotencyConflictError,
    Ledger,
    Payment,
    RefundTooLargeError,
)
from fleet_payments.models import Books, ChargeRequest, PaymentStatus, Receipt, RefundRequest

_EXPECTED = ApplicationErrorCategory.BENIGN
"""Part of everyday business: neither logged with a stack trace nor counted as a failure."""


@dataclass(frozen=True)
class PaymentResources:
    """What the activities are built from; open as long as the worker polls."""

    engine: AsyncEngine
    ledger: Ledger
    gateway: Gateway


class PaymentActivities:
    """Charges and refunds.

    Args:
        resources: Open ledger and gateway.
    """

    def __init__(self, resources: PaymentResources) -> None:
        self._engine = resources.engine
        self._ledger = resources.ledger
        self._gateway = resources.gateway

    @activity.defn
    async def charge(self, request: ChargeRequest) -> Receipt:
        """Take money from a card, once for each idempotency key.

        Raises:
            ApplicationError: Of type ``CardDeclined``, ``ChargeVoided``, ``IdempotencyConflict`` or
                ``UnsupportedCurrency``, which are never retried; or ``GatewayOverloaded``, which is
                retried when the gateway wants it.
        """
        if request.currency != self._ledger.currency:
            raise _final(
                "UnsupportedCurrency",
                f"charge {request.idempotency_key!r} is in {request.currency}, the ledger in "
                f"{self._ledger.currency} (PAYMENTS_CURRENCY)",
            )
        try:
            payment = await self._ledger.begin_charge(request)
        except IdempotencyConflictError as error:
            raise _final("IdempotencyConflict", str(error)) from error
        if payment.status is PaymentStatus.PENDING:
            payment = await self._capture(request)
        if payment.status is PaymentStatus.DECLINED:
            message = f"charge {payment.idempotency_key!r}: {payment.reason}"
            raise _final("CardDeclined", message, category=_EXPECTED)
        if payment.status is PaymentStatus.VOIDED:
            raise _final("ChargeVoided", f"charge {payment.idempotency_key!r}: {payment.reason}")
        return payment.receipt

    async def _capture(self, request: ChargeRequest) -> Payment:
        key = request.idempotency_key
        try:
            reference = await self._gateway.capture(key, request.card_token, request.amount_minor)
        except CardDeclinedError:
            return await self._ledger.close(key, PaymentStatus.DECLINED, "the bank declined")
        except GatewayOverloadedError as error:
            raise ApplicationError(
                f"charge {key!r}: the gateway is {error}",
                type="GatewayOverloaded",
                next_retry_delay=error.retry_after,
                category=_EXPECTED,
            ) from error
        return await self._ledger.settle(key, reference)

    @activity.defn
    async def refund(self, request: RefundRequest) -> Receipt:
        """Give back what a charge took, once for each idempotency key.

        It may be called without knowing whether the charge went through. A charge that did not is
        made impossible for the future, and the receipt is of 0.

        Raises:
            ApplicationError: Of type ``IdempotencyConflict`` or ``RefundTooLarge``; never retried.
        """
        charge = await self._ledger.find_or_void_charge(request.charge_key)
        if charge.kind != "charge":
            message = f"{request.charge_key!r} is the key of a refund, not of a charge"
            raise _final("IdempotencyConflict", message)
        if charge.status is PaymentStatus.PENDING:
            await self._resolve(charge)
        try:
            payment = await self._ledger.begin_refund(request)
        except IdempotencyConflictError as error:
            raise _final("IdempotencyConflict", str(error)) from error
        except RefundTooLargeError as error:
            raise _final("RefundTooLarge", str(error)) from error
        if payment.status is PaymentStatus.PENDING:
            reference = await self._gateway.refund(
                payment.idempotency_key, request.charge_key, payment.amount_minor
            )
            payment = await self._ledger.settle(payment.idempotency_key, reference)
        return payment.receipt

    async def _resolve(self, charge: Payment) -> None:
        """Bring a pending charge to its end: the worker that began it may be dead, or just slow."""
        reference = await self._gateway.void(charge.idempotency_key)
        if reference is None:
            reason = "voided by its refund"
            await self._ledger.close(charge.idempotency_key, PaymentStatus.VOIDED, reason)
        else:
            await self._ledger.settle(charge.idempotency_key, reference)

    @activity.defn
    async def audit_books(self) -> Books:
        """Add up the whole ledger and compare it with the gateway."""
        return await read_books(self._engine, self._ledger.currency)


def _final(
    type_: str,
    message: str,
    category: ApplicationErrorCategory = ApplicationErrorCategory.UNSPECIFIED,
) -> ApplicationError:
    return ApplicationError(message, type=type_, non_retryable=True, category=category)
