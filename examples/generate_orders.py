"""Write ``examples/orders.jsonl``: 200 orders of every kind, and two lines that are not orders.

The same seed gives the same file, so the file is kept in the repository and a test compares the
two::

    python examples/generate_orders.py > examples/orders.jsonl
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

SEED = 20261122
PRICES = {"mug": 1250, "notebook": 890, "poster": 1990, "t-shirt": 2400, "backpack": 7900}
TOWNS = [
    ("DE", "10115", "Berlin"),
    ("DE", "20095", "Hamburg"),
    ("AT", "1010", "Wien"),
    ("CH", "8001", "Zürich"),
    ("FR", "75001", "Paris"),
]
STREETS = ["Gartenweg", "Hauptstraße", "Lindenallee", "Marktplatz", "Am Ufer"]
NAMES = ["Ada Brandt", "Ben Keller", "Chloé Martin", "David Huber", "Eva Lang", "Finn Vogel"]
HOLD = 30
"""Longest wait for a customer's action, in seconds. The action ends the wait, so it is much
shorter."""

Order = dict[str, Any]


def happy(_: Order) -> None:
    """Nothing goes wrong."""


def silent_carrier(order: Order) -> None:
    """The carrier's events are missing: the shipment has to ask."""
    order["simulation"]["carrier_events"] = "missing"


def flaky_gateway(order: Order) -> None:
    """The gateway is overloaded twice, and then takes the money."""
    order["card_token"] = "tok_flaky_2"


def out_of_stock(order: Order) -> None:
    """One of the lines is sold out."""
    order["lines"].append({"sku": "limited-print", "quantity": 1, "unit_price_minor": 4900})


def declined(order: Order) -> None:
    """The bank refuses the card."""
    order["card_token"] = "tok_declined"


def carrier_lost(order: Order) -> None:
    """The carrier loses the parcel: the money goes back."""
    order["simulation"]["carrier"] = "loses"


def cancelled_before_charge(order: Order) -> None:
    """The customer cancels during the review: nothing was taken."""
    order["simulation"]["review_seconds"] = HOLD
    order["actions"] = [{"kind": "cancel", "when": "reviewing", "reason": "ordered twice"}]


def cancelled_after_charge(order: Order) -> None:
    """The customer cancels the packed order: money and goods go back."""
    order["simulation"]["packing_seconds"] = HOLD
    order["actions"] = [{"kind": "cancel", "when": "packing", "reason": "found it cheaper"}]


def address_changed(order: Order) -> None:
    """The customer moves before the parcel leaves."""
    order["simulation"]["packing_seconds"] = HOLD
    moved = order["address"] | {"street": "Neue Gasse 5", "postcode": "50667", "city": "Köln"}
    moved["country"] = "DE"
    order["actions"] = [{"kind": "change_address", "when": "packing", "address": moved}]


def address_refused(order: Order) -> None:
    """The customer moves to where nothing is delivered: the first address stays."""
    order["simulation"]["packing_seconds"] = 1
    moved = order["address"] | {"city": "Atlantis", "country": "XX"}
    order["actions"] = [{"kind": "change_address", "when": "packing", "address": moved}]


KINDS: dict[Callable[[Order], None], int] = {
    happy: 128,
    silent_carrier: 4,
    flaky_gateway: 12,
    out_of_stock: 12,
    declined: 12,
    carrier_lost: 8,
    cancelled_before_charge: 8,
    cancelled_after_charge: 8,
    address_changed: 6,
    address_refused: 2,
}
"""How many orders there are of each kind; 200 together."""

MALFORMED = {
    57: '{"order_id": "ord-cut-off", "customer": "customer-03", "lines": [{"sku": "mug", "quan',
    143: '{"order_id": "ord-no-lines", "customer": "customer-11", "card_token": "tok_visa", '
    '"lines": []}',
}
"""Line number to a line that is not an order."""


def _address(randomness: random.Random) -> dict[str, str]:
    country, postcode, city = randomness.choice(TOWNS)
    return {
        "name": randomness.choice(NAMES),
        "street": f"{randomness.choice(STREETS)} {randomness.randint(1, 99)}",
        "postcode": postcode,
        "city": city,
        "country": country,
    }


def _order(number: int, randomness: random.Random) -> Order:
    skus = randomness.sample(sorted(PRICES), randomness.randint(1, 3))
    return {
        "order_id": f"ord-{number:04}",
        "customer": f"customer-{randomness.randint(1, 40):02}",
        "card_token": randomness.choice(["tok_visa", "tok_mastercard"]),
        "lines": [
            {"sku": sku, "quantity": randomness.randint(1, 3), "unit_price_minor": PRICES[sku]}
            for sku in skus
        ],
        "address": _address(randomness),
        "simulation": {"transit_seconds": randomness.choice([0.2, 0.5, 0.8])},
    }


def lines() -> Iterator[str]:
    """Yield the lines of the file."""
    randomness = random.Random(SEED)
    kinds = [kind for kind, count in KINDS.items() for _ in range(count)]
    randomness.shuffle(kinds)
    written = 0
    for number, kind in enumerate(kinds, start=1):
        if written + 1 in MALFORMED:
            written += 1
            yield MALFORMED[written]
        order = _order(number, randomness)
        kind(order)
        written += 1
        yield json.dumps(order, ensure_ascii=False)


if __name__ == "__main__":
    for line in lines():
        sys.stdout.write(line + "\n")
