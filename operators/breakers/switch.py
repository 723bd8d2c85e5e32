"""What all breakers have in common: a switch that trips once, with an alert, and stays until it is released,
with another.
"""

from operators.account_output import record_alert
from operators.compiled import kernel, routine
from schemas.codes import AlertKind
from schemas.records import MICRO


@routine
def trip(state, out, place, breaker, instrument, strategy, observed, limit, until_ns):
    """Trip the breaker at `place` in `breakers`. One that is tripped already stays as it is: its time does
    not start again. `until_ns` 0: until its own rule or an operator releases it.
    """
    switch = state.breakers[place]
    if switch.tripped == 1:
        return False
    switch.tripped = 1
    switch.tripped_ns = state.account[0].time_ns
    switch.until_ns = until_ns
    switch.observed = observed
    switch.limit = limit
    switch.trips += 1
    record_alert(state, out, AlertKind.BREAKER_TRIPPED, breaker, instrument, strategy, observed, limit)
    return True


@routine
def release(state, out, place, breaker, instrument, strategy):
    """Release it; the alert repeats what it tripped on. False where it was not tripped."""
    switch = state.breakers[place]
    if switch.tripped == 0:
        return False
    switch.tripped = 0
    switch.until_ns = 0
    kind = AlertKind.BREAKER_RELEASED
    record_alert(state, out, kind, breaker, instrument, strategy, switch.observed, switch.limit)
    return True


@kernel
def is_due(state, place):
    """Has the time come at which a tripped breaker is released?"""
    switch = state.breakers[place]
    return switch.tripped == 1 and 0 < switch.until_ns <= state.account[0].time_ns


@kernel
def part_of(amount, share):
    """`share` millionths of `amount`, rounded down; their product would not fit 63 bits."""
    return amount // MICRO * share + amount % MICRO * share // MICRO


@kernel
def is_reached(loss, limit):
    """A loss trips at its limit. A loss of nothing never does, however little the limit is a share of."""
    return loss > 0 and loss >= limit
