"""The card gateway: the contract that the ledger relies on, and a simulation of one.

The contract is what makes a charge safe to retry after a crash: every operation has a key, and the
same key is the same operation forever. The simulation keeps its memory in a table of its own,
committed apart from the ledger, so that a crash between the two is a real one.
"""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import Protocol

from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from fleet_payments.database import gateway_operations, insert_missing

DECLINED_PREFIX = "tok_declined"
"""Cards whose bank refuses."""
FLAKY_PREFIX = "tok_flaky"
"""Cards for which the gateway is overloaded at first; ``tok_flaky_3`` three times, without number
twice."""


class CardDeclinedError(Exception):
    """The card's bank refused; asking again is no use."""


class GatewayOverloadedError(Exception):
    """The gateway asks to come back later.

    Attributes:
        retry_after: How long to stay away.
    """

    def __init__(self, retry_after: timedelta) -> None:
        self.retry_after = retry_after
        super().__init__(f"overloaded and asks to come back in {retry_after.total_seconds()} s")


class Gateway(Protocol):
    """What the ledger needs of a card gateway. All operations are idempotent by their key."""

    async def capture(self, key: str, card_token: str, amount_minor: int) -> str:
        """Take money from a card.

        Args:
            key: Idempotency key of the capture.
            card_token: Card to take it from.
            amount_minor: Amount in minor units.

        Returns:
            The gateway's number of the capture.

        Raises:
            CardDeclinedError: When the bank refuses, or the key was voided before.
            GatewayOverloadedError: When the gateway has no time; nothing was taken.
        """
        ...

    async def void(self, key: str) -> str | None:
        """Make sure that the key captures nothing from now on.

        Returns:
            The number of the capture when it already happened; None when it never will.
        """
        ...

    async def refund(self, key: str, capture_key: str, amount_minor: int) -> str:
        """Give back money of a capture and return the gateway's number of the refund."""
        ...


def gateway_reference(key: str) -> str:
    """Return the number that the simulated gateway gives to the operation with this key."""
    return "gw_" + hashlib.sha256(key.encode()).hexdigest()[:20]


class SimulatedGateway:
    """A gateway that decides by the card token alone, so that every run has the same outcome.

    Args:
        engine: Where it remembers its operations.
        latency: How long it takes to answer.
        overload_delay: How long it sends callers away when it is overloaded.
    """

    def __init__(
        self, engine: AsyncEngine, *, latency: timedelta, overload_delay: timedelta
    ) -> None:
        self._engine = engine
        self._latency = latency
        self._overload_delay = overload_delay

    async def capture(self, key: str, card_token: str, amount_minor: int) -> str:
        """Take money from a card; see :meth:`Gateway.capture`."""
        operation = await self._operate(key, "capture", card_token, amount_minor)
        if operation.outcome == "overloaded":
            raise GatewayOverloadedError(self._overload_delay)
        if operation.outcome != "done":
            raise CardDeclinedError(f"capture {key} was {operation.outcome}")
        return gateway_reference(key)

    async def void(self, key: str) -> str | None:
        """Make sure that the key captures nothing from now on; see :meth:`Gateway.void`."""
        operation = await self._operate(key, "void", "", 0)
        return gateway_reference(key) if operation.outcome == "done" else None

    async def refund(self, key: str, capture_key: str, amount_minor: int) -> str:
        """Give back money of a capture; see :meth:`Gateway.refund`."""
        del capture_key  # a real gateway checks it; here the ledger's own check is enough
        await self._operate(key, "refund", "", amount_minor)
        return gateway_reference(key)

    async def _operate(
        self, key: str, kind: str, card_token: str, amount_minor: int
    ) -> Row[tuple[str, str, str, int, int]]:
        await asyncio.sleep(self._latency.total_seconds())
        table = gateway_operations
        async with self._engine.begin() as connection:
            await insert_missing(
                connection,
                table,
                [{"key": key, "kind": kind, "outcome": "new", "amount_minor": 0, "attempts": 0}],
            )
            query = select(table).where(table.c.key == key)
            known = (await connection.execute(query.with_for_update())).one()
            if known.outcome in ("new", "overloaded"):
                attempts = known.attempts + 1
                outcome = _decide(kind, card_token, attempts)
                await connection.execute(
                    update(table)
                    .where(table.c.key == key)
                    .values(outcome=outcome, attempts=attempts, amount_minor=amount_minor)
                )
            return (await connection.execute(query)).one()


def _decide(kind: str, card_token: str, attempt: int) -> str:
    if kind == "void":
        return "voided"
    if card_token.startswith(DECLINED_PREFIX):
        return "declined"
    if card_token.startswith(FLAKY_PREFIX):
        times = card_token.removeprefix(FLAKY_PREFIX).strip("_")
        if attempt <= (int(times) if times.isdigit() else 2):
            return "overloaded"
    return "done"
