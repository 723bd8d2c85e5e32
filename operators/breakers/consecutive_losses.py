"""Consecutive losses: a strategy has lost so many round trips in a row that it is paused."""

from operators.account_state import strategy_breaker
from operators.breakers.switch import is_due, release, trip
from operators.compiled import kernel
from schemas.codes import Breaker

NONE = -1


@kernel
def round_trip(state, rules, out, s, result):
    """Strategy `s` has closed a position with `result` in millionths, after fees."""
    if s < 0:
        return
    limits = state.limits[0]
    strategy = state.strategies[s]
    strategy.losses = strategy.losses + 1 if result < 0 else 0
    if strategy.losses >= limits.losses_in_a_row:
        place = strategy_breaker(Breaker.CONSECUTIVE_LOSSES, s)
        until_ns = state.account[0].time_ns + limits.losses_pause_ns
        losses, most = strategy.losses, limits.losses_in_a_row
        trip(state, out, place, Breaker.CONSECUTIVE_LOSSES, NONE, s, losses, most, until_ns)


@kernel
def measure(state, out, s):
    if is_due(state, strategy_breaker(Breaker.CONSECUTIVE_LOSSES, s)):
        let_go(state, out, s)


@kernel
def let_go(state, out, s):
    """The count starts anew."""
    place = strategy_breaker(Breaker.CONSECUTIVE_LOSSES, s)
    if not release(state, out, place, Breaker.CONSECUTIVE_LOSSES, NONE, s):
        return False
    state.strategies[s].losses = 0
    return True
