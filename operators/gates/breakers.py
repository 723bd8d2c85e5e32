"""Breakers: a tripped breaker of the account, or of the strategy that wants the entry, opens nothing. While
the strategy trades unusually much, its openings keep their distance.
"""

from operators.account_state import strategy_breaker
from operators.compiled import kernel
from schemas.codes import Breaker, Reason


@kernel
def judge(state, rules, i, quantity, price):
    s = state.positions[i].strategy
    switch = state.breakers[Breaker.DAILY_LOSS]
    if switch.tripped != 0:
        return 0, Reason.DAILY_LOSS, switch.observed, switch.limit
    switch = state.breakers[Breaker.RAPID_LOSS]
    if switch.tripped != 0:
        return 0, Reason.RAPID_LOSS, switch.observed, switch.limit
    switch = state.breakers[strategy_breaker(Breaker.CONSECUTIVE_LOSSES, s)]
    if switch.tripped != 0:
        return 0, Reason.CONSECUTIVE_LOSSES, switch.observed, switch.limit
    switch = state.breakers[strategy_breaker(Breaker.STRATEGY_LOSS, s)]
    if switch.tripped != 0:
        return 0, Reason.STRATEGY_LOSS, switch.observed, switch.limit
    switch = state.breakers[strategy_breaker(Breaker.UNUSUAL_TRADING, s)]
    if switch.tripped != 0:
        return 0, Reason.UNUSUAL_TRADING, switch.observed, switch.limit
    time_ns = state.account[0].time_ns
    spacing_ns = state.strategies[s].spacing_ns
    if time_ns >= spacing_ns:
        return quantity, Reason.NONE, time_ns, spacing_ns
    return 0, Reason.UNUSUAL_TRADING, time_ns, spacing_ns
