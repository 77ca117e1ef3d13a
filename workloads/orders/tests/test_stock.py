from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from fleet_orders.models import OrderLine
from fleet_orders.stock import (
    CATALOGUE,
    AlreadyReleasedError,
    OutOfStockError,
    Stock,
    StockUnavailableError,
)
from fleet_orders.stock_database import parse_database_url

SHOPPERS = Path(__file__).with_name("shoppers.py")


@pytest.fixture
def stock(database_url: str) -> Iterator[Stock]:
    """A new stock in a database of each kind."""
    with closing(Stock(database_url)) as opened:
        opened.open()
        yield opened


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


def test_reserve_one_product_in_two_lines_is_counted_together(database_url: str) -> None:
    """Two lines of one product need as many of it as both say."""
    with closing(Stock(database_url)) as stock:
        stock.open({"mug": 5})
        with pytest.raises(OutOfStockError, match="6 of 'mug'"):
            stock.reserve("ord-1", [*lines(mug=3), *lines(mug=3)])
        stock.reserve("ord-2", [*lines(mug=3), *lines(mug=2)])

        assert stock.reserved_for("ord-2") == {"mug": 5}
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


def test_open_many_at_once_makes_one_stock(database_url: str) -> None:
    """Any number of workers may open a new stock at the same time."""
    with ExitStack() as stack, ThreadPoolExecutor(8) as threads:
        stocks = [stack.enter_context(closing(Stock(database_url))) for _ in range(8)]
        list(threads.map(Stock.open, stocks))

        stocks[0].check()
        assert stocks[0].problems() == []


def test_open_again_leaves_the_stock_as_it_is(database_url: str) -> None:
    """A worker that starts later does not fill up the stock."""
    for amount in (1, 100):
        with closing(Stock(database_url)) as stock:
            stock.open({"mug": amount})
            with suppress(OutOfStockError):
                stock.reserve(f"ord-{amount}", lines(mug=1))

    with closing(Stock(database_url)) as stock:
        assert (stock.reserved_for("ord-1"), stock.reserved_for("ord-100")) == ({"mug": 1}, {})


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
        # Lines come in any order; two orders must not wait for each other all the same.
        randomness.shuffle(wanted)
        with suppress(OutOfStockError, AlreadyReleasedError):
            stock.reserve(order_id, lines(**dict.fromkeys(wanted, 3)))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(one, work))

    assert stock.problems() == []


async def test_reserve_from_many_processes_never_oversells(database_url: str) -> None:
    """Processes that reserve the last items at once sell exactly what is there, to one order each."""
    with closing(Stock(database_url)) as stock:
        stock.open({"mug": 40, "poster": 1000})
        shoppers = [
            await asyncio.create_subprocess_exec(
                sys.executable, str(SHOPPERS), database_url, stdout=asyncio.subprocess.PIPE
            )
            for _ in range(3)
        ]
        # Every process wants the same 60 orders, so that most reservations are repeated ones.
        answers = [json.loads((await each.communicate())[0]) for each in shoppers]

        assert [each.returncode for each in shoppers] == [0, 0, 0]
        served = [set(answer["reserved"]) for answer in answers]
        assert served[0] == served[1] == served[2]
        assert len(served[0]) == 20
        assert {len(answer["out_of_stock"]) for answer in answers} == {40}
        assert sum(stock.reserved_for(order_id)["mug"] for order_id in served[0]) == 40
        assert stock.problems() == []


def test_reserve_stock_that_stays_locked_names_the_setting(database_url: str) -> None:
    """Who waits too long for another process' lock is told how long, and by which setting."""
    url = parse_database_url(SecretStr(database_url))
    with closing(Stock(database_url, lock_timeout=timedelta(milliseconds=100))) as stock:
        stock.open()
        other = create_engine(url)
        with other.connect() as holder:
            holder.execute(text("UPDATE stock SET available = available WHERE sku = 'mug'"))
            with pytest.raises(
                StockUnavailableError, match="ORDERS_LOCK_TIMEOUT_SECONDS"
            ) as caught:
                stock.reserve("ord-1", lines(mug=1))
            holder.rollback()
        other.dispose()

        assert "0.1 s" in str(caught.value)
        stock.reserve("ord-1", lines(mug=1))
        assert stock.reserved_for("ord-1") == {"mug": 1}


@pytest.mark.postgres
def test_check_no_server_says_which_setting_to_look_at(tmp_path: Path) -> None:
    """A database that is not there is an error that names the setting and never the password."""
    url = f"postgresql://app:geheim@/shop?host={tmp_path}"
    with closing(Stock(url)) as stock, pytest.raises(StockUnavailableError) as caught:
        stock.check()

    assert "ORDERS_DATABASE_URL" in str(caught.value)
    assert "geheim" not in str(caught.value)
