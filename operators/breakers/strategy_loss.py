"""Strategy loss: a strategy's result has fallen from its best by a share of its capital, so it is paused."""

from operators.account_state import strategy_breaker
from operators.breakers.switch import is_due, is_reached, part_of, release, trip
from operators.compiled import kernel
from schemas.codes import Breaker

NONE = -1


@kernel
def measure(state, rules, out, s):
    account = state.account[0]
    limits = state.limits[0]
    strategy = state.strategies[s]
    place = strategy_breaker(Breaker.STRATEGY_LOSS, s)
    if is_due(state, place):
        let_go(state, out, s)
    strategy.best = max(strategy.best, strategy.result)
    fall = strategy.best - strategy.result
    limit = part_of(part_of(account.equity, rules.strategies[s].share), limits.strategy_loss)
    if is_reached(fall, limit):
        until_ns = account.time_ns + limits.strategy_pause_ns
        trip(state, out, place, Breaker.STRATEGY_LOSS, NONE, s, fall, limit, until_ns)


@kernel
def let_go(state, out, s):
    """The fall so far is paid for: the next one counts from here."""
    place = strategy_breaker(Breaker.STRATEGY_LOSS, s)
    if not release(state, out, place, Breaker.STRATEGY_LOSS, NONE, s):
        return False
    state.strategies[s].best = state.strategies[s].result
    return True
