"""Fills that the venue has told of and that have not come. Until they come, or an operator or a statement
settles the instrument, they count as if they could still fill. An instrument with a missing fill is blocked.
"""

from operators.account_state import PAST
from operators.compiled import kernel
from operators.order_lifecycle import is_live
from schemas.codes import Reason


@kernel
def missing_of(order):
    """Lots of an order that the venue says have traded, and whose fills have not come."""
    return max(order.told - order.cumulative - order.busted, 0)


@kernel
def owed(state, i, side):
    """Lots that the venue says have traded on `side`, and whose fills have not come."""
    order = state.orders[i]
    lots = missing_of(order) if order.side == side and is_live(order) else 0
    return lots + owed_by_ended(state, i, side)


@kernel
def owed_by_ended(state, i, side):
    """The same, without what a live order could fill anyway."""
    if state.positions[i].blocked == Reason.NONE:
        return 0
    order = state.orders[i]
    lots = missing_of(order) if order.side == side and not is_live(order) else 0
    for k in range(PAST * i, PAST * (i + 1)):
        if state.past[k].side == side:
            lots += missing_of(state.past[k])
    return lots
