from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from fleet_orders.models import OrderLine
from fleet_orders.stock import CATALOGUE, AlreadyReleasedError, OutOfStockError, Stock


@pytest.fixture
def stock(tmp_path: Path) -> Stock:
    """A new stock."""
    opened = Stock(tmp_path / "shop" / "stock.db")
    opened.open()
    return opened


def lines(**quantities: int) -> list[OrderLine]:
    """Order lines of these products."""
    return [
        OrderLine(sku=sku.replace("_", "-"), quantity=quantity, unit_price_minor=100)
        for sku, quantity in quantities.items()
    ]


def test_reserve_same_order_twice_takes_once(stock: Stock) -> None:
    """A repeated reservation of one order takes nothing more."""
    for _ in range(2):
        stock.reserve("ord-1", lines(mug=2, poster=1))

    assert stock.reserved_for("ord-1") == {"mug": 2, "poster": 1}
    assert stock.problems() == []


@pytest.mark.parametrize("sku", ["limited_print", "unicorn"])
def test_reserve_one_line_missing_takes_nothing(stock: Stock, sku: str) -> None:
    """When one line is sold out or unknown, the other lines stay in the stock too."""
    with pytest.raises(OutOfStockError, match=sku.replace("_", "-")):
        stock.reserve("ord-1", lines(mug=2, **{sku: 1}))

    assert stock.reserved_for("ord-1") == {}
    assert stock.problems() == []


def test_release_gives_everything_back_once(stock: Stock) -> None:
    """A repeated release gives back what was reserved, and no more."""
    stock.reserve("ord-1", [*lines(mug=2), *lines(mug=3)])
    for _ in range(2):
        stock.release("ord-1")

    assert stock.reserved_for("ord-1") == {}
    assert stock.problems() == []


def test_reserve_after_release_is_refused(stock: Stock) -> None:
    """A reservation that arrives after its own release takes nothing."""
    stock.release("ord-1")

    with pytest.raises(AlreadyReleasedError):
        stock.reserve("ord-1", lines(mug=1))
    assert stock.problems() == []


def test_open_many_at_once_makes_one_stock(tmp_path: Path) -> None:
    """Any number of workers may open a new stock at the same time."""
    stocks = [Stock(tmp_path / "stock.db") for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(Stock.open, stocks))

    stocks[0].check()
    assert stocks[0].problems() == []


@pytest.mark.parametrize("seed", range(3))
def test_stock_random_mix_at_once_adds_up(stock: Stock, seed: int) -> None:
    """However reservations and releases mix, every item is either available or reserved."""
    randomness = random.Random(seed)
    skus = sorted(CATALOGUE)
    work = [(f"ord-{randomness.randrange(12)}", randomness.random() < 0.6) for _ in range(80)]

    def one(step: tuple[str, bool]) -> None:
        order_id, reserving = step
        if not reserving:
            stock.release(order_id)
            return
        wanted = [sku for sku in skus if sku < skus[int(order_id[4:]) % 6]]
        with suppress(OutOfStockError, AlreadyReleasedError):
            stock.reserve(order_id, lines(**dict.fromkeys(wanted, 3)))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(one, work))

    assert stock.problems() == []
