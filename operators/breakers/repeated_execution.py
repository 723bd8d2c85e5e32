"""Repeated execution: a strategy has opened an instrument more often than the frequency gate allows, so the
gate has switched it off there, until the next session or an operator, as configured.
"""

from operators.account_state import RING, opening_breaker
from operators.breakers import switch
from operators.compiled import kernel
from schemas.codes import Breaker


@kernel
def switch_off(state, rules, out, h, observed, limit):
    """Switch off holding `h`."""
    rule = rules.holdings[h]
    place = opening_breaker(rules, h)
    breaker = Breaker.REPEATED_EXECUTION
    switch.trip(state, out, place, breaker, rule.instrument, rule.strategy, observed, limit, 0)


@kernel
def let_go(state, rules, out, h):
    """Its openings count from here."""
    rule = rules.holdings[h]
    place = opening_breaker(rules, h)
    if not switch.release(state, out, place, Breaker.REPEATED_EXECUTION, rule.instrument, rule.strategy):
        return False
    holding = state.holdings[h]
    holding.openings = 0
    for k in range(RING):
        holding.opened_ring[k] = 0
    return True
