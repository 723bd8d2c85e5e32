"""Reconciliation: where the venue has said something that does not fit, nothing is added until it is settled.

An order whose outcome is unknown needs no check here: it is live, and an instrument has one live order.
"""

from operators.compiled import kernel
from schemas.codes import Reason


@kernel
def judge(state, rules, i, quantity, price):
    blocked = state.positions[i].blocked
    if blocked == 0:
        return quantity, Reason.NONE, blocked, 0
    return 0, Reason.BLOCKED, blocked, 0
