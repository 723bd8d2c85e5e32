"""Frequency gate: one opening a bar and instrument; more openings of a strategy in an instrument than allowed
in the window or in the session switch it off there until its release.

The ring of the last opening times has room for the largest limit the configuration allows, so counting is
exact.
"""

from operators.account_state import RING, opening_breaker
from operators.breakers.repeated_execution import let_go, switch_off
from operators.compiled import kernel
from schemas.codes import Reason


@kernel
def holding_of(state, rules, i):
    """The holding that an entry in instrument `i` adds to: that of the strategy which wants it."""
    me = rules.instruments[i]
    strategy = state.positions[i].strategy
    found = me.last_holding - 1  # of no strategy
    for h in range(me.first_holding, me.last_holding):
        if rules.holdings[h].strategy == strategy:
            found = h
    return found


@kernel
def judge(state, rules, out, i, quantity, price):
    """Like every gate, and trips the breaker where a limit is exceeded."""
    limits = state.limits[0]
    position = state.positions[i]
    if position.opened_ns == position.mark_ns:
        return 0, Reason.ONE_OPENING_A_BAR, 1, 1
    h = holding_of(state, rules, i)
    holding = state.holdings[h]
    switch = state.breakers[opening_breaker(rules, h)]
    if switch.tripped != 0:
        return 0, Reason.SWITCHED_OFF, switch.observed, switch.limit
    if holding.openings >= limits.openings_per_day:
        switch_off(state, rules, out, h, holding.openings, limits.openings_per_day)
        return 0, Reason.TOO_FREQUENT, holding.openings, limits.openings_per_day
    begin_ns = state.account[0].time_ns - limits.window_ns
    recent = 0
    for k in range(RING):
        if holding.opened_ring[k] > begin_ns:
            recent += 1
    if recent >= limits.openings_per_window:
        switch_off(state, rules, out, h, recent, limits.openings_per_window)
        return 0, Reason.TOO_FREQUENT, recent, limits.openings_per_window
    return quantity, Reason.NONE, recent, limits.openings_per_window


@kernel
def record_opening(state, rules, i, time_ns):
    """An opening order in instrument `i` leaves."""
    position = state.positions[i]
    position.opened_ns = position.mark_ns
    holding = state.holdings[holding_of(state, rules, i)]
    holding.openings += 1
    holding.opened_ring[holding.ring_next] = time_ns
    holding.ring_next = (holding.ring_next + 1) % RING


@kernel
def start_session(state, rules, out):
    """The day's count starts anew, and what is switched off is released where the rule says so."""
    for h in range(len(state.holdings)):
        state.holdings[h].openings = 0
        if state.limits[0].release_next_session == 1:
            let_go(state, rules, out, h)
