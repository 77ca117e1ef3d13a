from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from fleet_orders.models import Order

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_orders_file_is_what_the_generator_writes() -> None:
    """The file in the repository is the generator's output, byte for byte."""
    written = subprocess.run(
        [sys.executable, EXAMPLES / "generate_orders.py"], check=True, capture_output=True
    )

    assert written.stdout == (EXAMPLES / "orders.jsonl").read_bytes()


def test_orders_file_has_200_orders_and_two_bad_lines() -> None:
    """All lines but 57 and 143 are valid orders with different IDs."""
    order_ids, bad = set(), []
    for number, line in enumerate((EXAMPLES / "orders.jsonl").read_text().splitlines(), start=1):
        try:
            order_ids.add(Order.model_validate_json(line).order_id)
        except ValidationError:
            bad.append(number)

    assert len(order_ids) == 200
    assert bad == [57, 143]


@pytest.mark.parametrize("quantity", [0, 101, 1.5, "2"])
def test_order_wrong_quantity_is_refused(quantity: object) -> None:
    """A quantity that is no small whole number above zero makes an order invalid."""
    line = {"sku": "mug", "quantity": quantity, "unit_price_minor": 100}

    with pytest.raises(ValidationError, match="quantity"):
        Order.model_validate(
            {"order_id": "ord-1", "customer": "c", "card_token": "t", "lines": [line]}
        )
