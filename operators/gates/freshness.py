"""Freshness gate: no entry in an instrument whose last bar is too old, or that has shown none."""

from operators.compiled import kernel
from schemas.codes import Reason


@kernel
def judge(state, rules, i, quantity, price):
    age = state.account[0].time_ns - state.positions[i].mark_ns
    limit = state.limits[0].max_age_ns
    if 0 <= age <= limit and price > 0:
        return quantity, Reason.NONE, age, limit
    return 0, Reason.STALE_DATA, age, limit
