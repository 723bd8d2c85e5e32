"""The breakers, one file each. A breaker watches what has happened and trips; the gates, the exits and the
allocation ask whether it is tripped.

| breaker | of | trips | while tripped | released by |
|---|---|---|---|---|
| daily loss | account | loss in the session | all is sold, no entries | operator, or the next session |
| rapid loss | account | fall within the window | no entries | its time |
| drawdown | account | fall from the peak | smaller targets | recovery |
| consecutive losses | strategy | round trips lost in a row | no entries | its time |
| strategy loss | strategy | fall from its best | no entries | its time |
| unusual trading | strategy | beyond its own profile | no entries | the end of the block |
| exit failure | instrument | an exit fails or stands still | exits at any price | flat |
| repeated execution | strategy, instrument | the frequency gate's limits | no entries there | as configured |

An operator can release each of them; nothing else does, a restart least of all: they are part of the state.
All times are event times. Tripping and releasing make one alert each.
"""

from operators.breakers import (
    consecutive_losses,
    daily_loss,
    drawdown,
    exit_failure,
    rapid_loss,
    repeated_execution,
    strategy_loss,
    unusual_trading,
)
from operators.breakers.consecutive_losses import round_trip
from operators.breakers.daily_loss import start_session
from operators.breakers.exit_failure import check_exits, exit_failed, exit_settled
from operators.breakers.unusual_trading import bar_passed, costs_paid, opening_wanted, record_opening
from operators.compiled import kernel
from schemas.codes import Breaker, HaltLevel

__all__ = [
    "bar_passed",
    "check_exits",
    "costs_paid",
    "exit_failed",
    "exit_settled",
    "measure",
    "opening_wanted",
    "record_opening",
    "release_by_operator",
    "round_trip",
    "start_session",
    "wants_flat",
]

ANY = -1


@kernel
def measure(state, rules, out):
    """Release what is due, then judge the losses. Once a group, when equity and results are up to date."""
    daily_loss.measure(state, out)
    rapid_loss.measure(state, out)
    drawdown.measure(state, out)
    for s in range(len(state.strategies)):
        consecutive_losses.measure(state, out, s)
        strategy_loss.measure(state, rules, out, s)


@kernel
def wants_flat(state):
    """Must the account sell everything?"""
    account = state.account[0]
    return (
        state.breakers[Breaker.DAILY_LOSS].tripped != 0
        or account.flattening != 0
        or account.level >= HaltLevel.KILLED
    )


@kernel
def release_by_operator(state, rules, out, breaker, strategy, instrument):
    """Release what is tripped of this kind, of all strategies and instruments where they are -1. False where
    nothing was.
    """
    if breaker == Breaker.DAILY_LOSS:
        return daily_loss.release_by_operator(state, out)
    if breaker == Breaker.RAPID_LOSS:
        return rapid_loss.let_go(state, out)
    if breaker == Breaker.DRAWDOWN:
        return drawdown.release_by_operator(state, out)
    released = False
    if breaker == Breaker.EXIT_FAILURE:
        for i in range(len(state.positions)):
            if instrument == ANY or instrument == i:
                released |= exit_failure.release_by_operator(state, rules, out, i)
    elif breaker == Breaker.REPEATED_EXECUTION:
        for h in range(len(state.holdings)):
            rule = rules.holdings[h]
            ours = strategy == ANY or strategy == rule.strategy
            if ours and (instrument == ANY or instrument == rule.instrument):
                released |= repeated_execution.let_go(state, rules, out, h)
    else:
        for s in range(len(state.strategies)):
            if strategy == ANY or strategy == s:
                released |= release_of_strategy(state, out, breaker, s)
    return released


@kernel
def release_of_strategy(state, out, breaker, s):
    if breaker == Breaker.CONSECUTIVE_LOSSES:
        return consecutive_losses.let_go(state, out, s)
    if breaker == Breaker.STRATEGY_LOSS:
        return strategy_loss.let_go(state, out, s)
    if breaker == Breaker.UNUSUAL_TRADING:
        return unusual_trading.release_by_operator(state, out, s)
    return False
