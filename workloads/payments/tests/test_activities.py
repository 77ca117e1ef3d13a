from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest
from sqlalchemy import delete, insert, update
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from fleet_payments.activities import PaymentActivities, PaymentResources
from fleet_payments.audit import books, read_books
from fleet_payments.database import entries, payments
from fleet_payments.gateway import CardDeclinedError, SimulatedGateway
from fleet_payments.models import Books, ChargeRequest, PaymentStatus, Receipt, RefundRequest

OpenResources = Callable[[], AbstractAsyncContextManager[PaymentResources]]


def charge_request(
    key: str = "charge-1", amount: int = 1250, card: str = "tok_ok"
) -> ChargeRequest:
    """A charge of 12.50 EUR, unless said otherwise."""
    return ChargeRequest(
        idempotency_key=key,
        customer="customer-1",
        card_token=card,
        amount_minor=amount,
        currency="EUR",
    )


def refund_request(key: str = "refund-1", **values: object) -> RefundRequest:
    """A refund of all of that charge, unless said otherwise."""
    return RefundRequest.model_validate({"idempotency_key": key, "charge_key": "charge-1"} | values)


async def charge(resources: PaymentResources, request: ChargeRequest) -> Receipt:
    """Run one attempt of the activity ``charge``."""
    return await ActivityEnvironment().run(PaymentActivities(resources).charge, request)


async def refund(resources: PaymentResources, request: RefundRequest) -> Receipt:
    """Run one attempt of the activity ``refund``."""
    return await ActivityEnvironment().run(PaymentActivities(resources).refund, request)


async def audit(resources: PaymentResources) -> Books:
    """Run the activity ``audit_books``."""
    return await ActivityEnvironment().run(PaymentActivities(resources).audit_books)


async def test_charge_same_key_twice_takes_money_once(resources: PaymentResources) -> None:
    """The same key returns the first receipt and moves no more money."""
    first = await charge(resources, charge_request())
    second = await charge(resources, charge_request())

    assert first == second
    assert first.status is PaymentStatus.SETTLED
    books = await audit(resources)
    assert (books.charges, books.captured_minor, books.problems) == (1, 1250, [])


async def test_charge_same_key_at_once_takes_money_once(resources: PaymentResources) -> None:
    """Ten attempts with one key at the same time give ten equal receipts and one charge."""
    receipts = await asyncio.gather(*(charge(resources, charge_request()) for _ in range(10)))

    assert len(set(map(repr, receipts))) == 1
    assert (await audit(resources)).captured_minor == 1250


async def test_charge_same_key_other_amount_is_refused(resources: PaymentResources) -> None:
    """A key that is used again for another amount fails for good and names both amounts."""
    await charge(resources, charge_request())

    with pytest.raises(ApplicationError, match=r"another requested: 1250, now 9900") as caught:
        await charge(resources, charge_request(amount=9900))
    assert (caught.value.type, caught.value.non_retryable) == ("IdempotencyConflict", True)


async def test_charge_declined_card_fails_for_good(resources: PaymentResources) -> None:
    """A declined card is a non-retryable CardDeclined, on every attempt, and takes no money."""
    for _ in range(2):
        with pytest.raises(ApplicationError) as caught:
            await charge(resources, charge_request(card="tok_declined"))
        assert (caught.value.type, caught.value.non_retryable) == ("CardDeclined", True)

    assert (await audit(resources)).captured_minor == 0


async def test_charge_overloaded_gateway_is_retried_when_it_wants(
    resources: PaymentResources,
) -> None:
    """An overloaded gateway is a retryable error with the gateway's own delay, until it answers."""
    request = charge_request(card="tok_flaky_2")
    for _ in range(2):
        with pytest.raises(ApplicationError) as caught:
            await charge(resources, request)
        assert (caught.value.type, caught.value.non_retryable) == ("GatewayOverloaded", False)
        assert caught.value.next_retry_delay == timedelta(milliseconds=1)

    assert (await charge(resources, request)).status is PaymentStatus.SETTLED


async def test_charge_other_currency_is_refused(resources: PaymentResources) -> None:
    """A charge in another currency than the ledger's fails for good and names the setting."""
    request = charge_request().model_copy(update={"currency": "USD"})

    with pytest.raises(ApplicationError, match="PAYMENTS_CURRENCY") as caught:
        await charge(resources, request)
    assert caught.value.type == "UnsupportedCurrency"


async def test_charge_crash_after_capture_is_settled_by_next_attempt(
    open_payments: OpenResources,
) -> None:
    """A process that dies between the gateway's capture and the ledger leaves nothing to mend."""
    request = charge_request()
    async with open_payments() as dying:
        await dying.ledger.begin_charge(request)
        await dying.gateway.capture(request.idempotency_key, request.card_token, 1250)
    async with open_payments() as next_one:
        assert (await audit(next_one)).pending == 1

        receipt = await charge(next_one, request)

        assert receipt.status is PaymentStatus.SETTLED
        books = await audit(next_one)
        assert (books.captured_minor, books.pending, books.problems) == (1250, 0, [])


async def test_refund_returns_the_whole_charge_once(resources: PaymentResources) -> None:
    """A refund without an amount gives everything back, and only once for its key."""
    await charge(resources, charge_request())
    first = await refund(resources, refund_request())

    assert (first.amount_minor, first.status) == (1250, PaymentStatus.SETTLED)
    assert await refund(resources, refund_request()) == first
    books = await audit(resources)
    assert (books.refunded_minor, books.net_minor, books.problems) == (1250, 0, [])


async def test_refund_parts_at_once_never_exceed_the_charge(resources: PaymentResources) -> None:
    """Of many partial refunds at the same time only as many succeed as there is money."""
    await charge(resources, charge_request(amount=1000))
    results = await asyncio.gather(
        *(refund(resources, refund_request(f"r-{n}", amount_minor=300)) for n in range(6)),
        return_exceptions=True,
    )

    errors = [result for result in results if isinstance(result, ApplicationError)]
    assert [error.type for error in errors] == ["RefundTooLarge"] * 3
    books = await audit(resources)
    assert (books.refunded_minor, books.problems) == (900, [])


async def test_refund_same_key_other_amount_is_refused(resources: PaymentResources) -> None:
    """A refund's key that is used again for another amount fails for good."""
    await charge(resources, charge_request())
    await refund(resources, refund_request(amount_minor=100))

    with pytest.raises(ApplicationError) as caught:
        await refund(resources, refund_request(amount_minor=200))
    assert (caught.value.type, caught.value.non_retryable) == ("IdempotencyConflict", True)


async def test_refund_unknown_charge_makes_it_impossible(resources: PaymentResources) -> None:
    """After the refund of a charge that never came, that charge is refused when it comes late."""
    receipt = await refund(resources, refund_request())
    assert (receipt.amount_minor, receipt.status) == (0, PaymentStatus.VOIDED)

    with pytest.raises(ApplicationError) as caught:
        await charge(resources, charge_request())
    assert (caught.value.type, caught.value.non_retryable) == ("ChargeVoided", True)
    assert (await audit(resources)).captured_minor == 0


async def test_refund_pending_charge_not_captured_voids_it(resources: PaymentResources) -> None:
    """A charge that was begun but not captured is voided, at the gateway too."""
    await resources.ledger.begin_charge(charge_request())
    receipt = await refund(resources, refund_request())

    assert receipt.amount_minor == 0
    with pytest.raises(CardDeclinedError):
        await resources.gateway.capture("charge-1", "tok_ok", 1250)
    assert (await audit(resources)).problems == []


async def test_refund_pending_charge_already_captured_gives_money_back(
    resources: PaymentResources,
) -> None:
    """A charge whose worker died after the capture is settled first and then given back."""
    await resources.ledger.begin_charge(charge_request())
    await resources.gateway.capture("charge-1", "tok_ok", 1250)
    receipt = await refund(resources, refund_request())

    assert receipt.amount_minor == 1250
    books = await audit(resources)
    assert (books.captured_minor, books.net_minor, books.problems) == (1250, 0, [])


@pytest.mark.parametrize("seed", range(4))
async def test_books_random_mix_of_operations_balance(
    resources: PaymentResources, seed: int
) -> None:
    """However charges, refunds, retries and refusals mix, the books balance."""
    randomness = random.Random(seed)
    cards = ["tok_ok", "tok_ok", "tok_declined", "tok_flaky_1"]

    async def one_customer(number: int) -> None:
        key = f"charge-{number % 25}"
        if randomness.random() < 0.6:
            request = charge_request(key, 100 + number % 25, cards[number % 4])
            await charge(resources, request)
        else:
            amount = randomness.choice([None, 10, 60])
            asked = refund_request(f"refund-{number}", charge_key=key, amount_minor=amount)
            await refund(resources, asked)

    results = await asyncio.gather(
        *(one_customer(number) for number in randomness.sample(range(120), 120)),
        return_exceptions=True,
    )

    unexpected = [r for r in results if r is not None and not isinstance(r, ApplicationError)]
    assert unexpected == []
    books = await audit(resources)
    assert books.balanced, books.problems
    assert books.net_minor == books.captured_minor - books.refunded_minor


async def test_books_wrong_entry_is_found(resources: PaymentResources) -> None:
    """A ledger that was tampered with does not pass the audit, which names every consequence."""
    await charge(resources, charge_request())
    async with resources.engine.begin() as connection:
        await connection.execute(
            update(entries).where(entries.c.account == "sales").values(amount_minor=-1200)
        )
    books = await read_books(resources.engine, "EUR")

    assert not books.balanced
    assert books.problems == [
        "ledger transaction 1 does not add up to 0",
        "account sales holds -1200, the payments say -1250 (minor units)",
    ]


async def test_books_money_unknown_to_the_ledger_is_found(resources: PaymentResources) -> None:
    """A capture at the gateway without a charge in the ledger does not pass the audit."""
    await resources.gateway.capture("charge-9", "tok_ok", 700)
    await charge(resources, charge_request())
    async with resources.engine.begin() as connection:
        await connection.execute(delete(entries))
        await connection.execute(
            insert(payments).values(
                idempotency_key="charge-8",
                kind="charge",
                status="settled",
                customer="customer-1",
                amount_minor=5,
                currency="EUR",
            )
        )

    problems = " / ".join((await read_books(resources.engine, "EUR")).problems)
    assert "the gateway moved money for charge-9, which the ledger does not know" in problems
    assert "payment charge-8 is settled but not booked" in problems
    assert "payment charge-8 is settled but the gateway moved another amount" in problems


async def test_books_by_url_equal_the_activity(
    resources: PaymentResources, database_url: str
) -> None:
    """The audit of a database by its URL says the same as the worker's activity."""
    await charge(resources, charge_request())

    assert await books(database_url) == await audit(resources)


async def test_gateway_flaky_card_counts_attempts_across_processes(
    open_payments: OpenResources,
) -> None:
    """How often an operation was tried is remembered when the process that tried it is gone."""
    outcomes = []
    for _ in range(3):
        async with open_payments() as resources:
            assert isinstance(resources.gateway, SimulatedGateway)
            try:
                await resources.gateway.capture("charge-1", "tok_flaky", 100)
                outcomes.append("done")
            except Exception as error:  # noqa: BLE001 - the type is what is compared
                outcomes.append(type(error).__name__)

    assert outcomes == ["GatewayOverloadedError", "GatewayOverloadedError", "done"]
