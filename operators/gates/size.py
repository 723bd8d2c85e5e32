"""Size gate: the value of a position, the number of positions, the share of the market's volume, and the
least worth sending.
"""

from operators.compiled import kernel
from operators.gates.conflict import exposed
from schemas.codes import Reason
from schemas.records import MICRO

# Of a position. The square of twice as many still fits 63 bits, which the average cost needs while all of it
# is sold. The paper venue has a limit of its own, of an order: it knows nothing of the accounts it serves.
MAX_LOTS = 1_000_000_000


@kernel
def judge(state, rules, i, quantity, price):
    limits = state.limits[0]
    account = state.account[0]
    position = state.positions[i]

    if position.quantity <= 0:
        held = 0
        for k in range(len(state.positions)):
            if exposed(state, k) > 0:
                held += 1
        if held >= limits.max_positions:
            return 0, Reason.COUNT_LIMIT, held, limits.max_positions

    reason, observed, limit = Reason.NONE, quantity, quantity
    most_value = min(limits.max_position_value, account.equity // MICRO * limits.max_position_share)
    most = max(min(most_value // price, MAX_LOTS) - position.quantity, 0)
    if quantity > most:
        reason, observed, limit, quantity = Reason.POSITION_LIMIT, quantity, most, most
    most = position.volume * limits.max_volume_share // MICRO
    if quantity > most:
        reason, observed, limit, quantity = Reason.VOLUME_LIMIT, quantity, most, most
    if quantity * price < limits.min_order_value:
        if reason == Reason.NONE:
            reason, observed, limit = Reason.TOO_SMALL, quantity * price, limits.min_order_value
        return 0, reason, observed, limit
    return quantity, reason, observed, limit
