"""Cash gate: the worst case of a buy, its collar and fees, is paid from cash that nothing else has reserved.

Cash, never equity. What is left of the wish is approved; less than the least order is refused.
"""

from operators.compiled import kernel
from operators.paper_venue import fee_per_unit
from schemas.codes import Reason
from schemas.records import MICRO


@kernel
def limit_price(price, limits):
    """The collar: the highest price a buy decided at `price` may pay."""
    return price + price * limits.collar // MICRO


@kernel
def worst_cost(quantity, limit, limits):
    """Most that buying `quantity` under `limit` can cost: fees, and the commission of selling it again, which
    must not have to come from cash that is not there.
    """
    return quantity * (limit + fee_per_unit(limit, limits) + limits.commission_per_unit)


@kernel
def judge(state, rules, i, quantity, price):
    limits = state.limits[0]
    account = state.account[0]
    free = account.cash - account.reserved - account.cash // MICRO * limits.buffer_share
    each = worst_cost(1, limit_price(price, limits), limits)
    most = max(free, 0) // each
    if quantity <= most:
        return quantity, Reason.NONE, quantity * each, free
    if most * price < limits.min_order_value:
        return 0, Reason.CASH, quantity * each, free
    return most, Reason.CASH, quantity * each, free
