"""Conflict gate: the two sides of a leveraged family are never held together, counting every order that
could still fill.
"""

from operators.compiled import kernel
from operators.missing import owed_by_ended
from operators.order_lifecycle import is_live
from schemas.codes import Reason, Side


@kernel
def exposed(state, i):
    """Lots of instrument `i` held or still to come: the position and what an open buy could add. An open sell
    does not count as sold, and what was sold beyond the position does not count against a buy.
    """
    order = state.orders[i]
    held = max(state.positions[i].quantity, 0) + owed_by_ended(state, i, Side.BUY)
    if is_live(order) and order.side == Side.BUY:
        held += order.quantity - order.cumulative
    return held


@kernel
def judge(state, rules, i, quantity, price):
    me = rules.instruments[i]
    one_alone = state.limits[0].one_of_one_side == 1
    for m in range(me.first_member, me.last_member):
        other = rules.members[m]
        if other == i:
            continue
        held = exposed(state, other)
        if held == 0:
            continue
        if rules.instruments[other].side != me.side:
            return 0, Reason.OPPOSITE_SIDE, held, 0
        if one_alone:
            return 0, Reason.SAME_SIDE, held, 0
    return quantity, Reason.NONE, 0, 0
