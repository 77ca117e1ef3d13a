"""Search attributes of orders, for lists and filters in the Temporal UI.

They exist only where somebody registered them in the namespace, so everything works without them.
"""

from __future__ import annotations

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from fleet_orders.models import Order, OrderState

CUSTOMER = SearchAttributeKey.for_keyword("OrderCustomer")
"""Who ordered."""

ORDER_STATE = SearchAttributeKey.for_keyword("OrderState")
"""The order's state; kept up to date only when it was set at the start, and for states that may last."""


def search_attributes(order: Order) -> TypedSearchAttributes:
    """Return the attributes that an order starts with."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(CUSTOMER, order.customer),
            SearchAttributePair(ORDER_STATE, OrderState.VALIDATING.value),
        ]
    )
