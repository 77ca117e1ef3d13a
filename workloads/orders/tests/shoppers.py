"""Reserves 60 orders of two mugs from six threads; run by a test, several times at once.

Usage: ``shoppers.py DATABASE_URL``. Prints which orders were reserved and which were out of stock.
"""

from __future__ import annotations

import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from fleet_orders.models import OrderLine
from fleet_orders.stock import OutOfStockError, Stock

LINES = [
    OrderLine(sku=sku, quantity=quantity, unit_price_minor=100)
    for sku, quantity in (("poster", 1), ("mug", 2))
]


def main() -> None:
    """Reserve in an order of this process' own, all at once."""
    order_ids = [f"ord-{number}" for number in range(60)]
    random.shuffle(order_ids)
    with closing(Stock(sys.argv[1], pool_size=6)) as stock, ThreadPoolExecutor(6) as threads:

        def reserve(order_id: str) -> str:
            try:
                stock.reserve(order_id, LINES)
            except OutOfStockError:
                return "out_of_stock"
            return "reserved"

        results = dict(zip(order_ids, threads.map(reserve, order_ids), strict=True))
    outcome = {
        kind: sorted(order_id for order_id, result in results.items() if result == kind)
        for kind in ("reserved", "out_of_stock")
    }
    sys.stdout.write(json.dumps(outcome))


if __name__ == "__main__":
    main()
