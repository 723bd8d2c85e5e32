"""Frequency gate: one opening a bar and instrument; more openings than allowed in the window or in the
session switch the
instrument off until its release.

The ring of the last opening times has room for the largest limit the configuration allows, so counting is
exact.
"""

from operators.account_state import RING
from operators.compiled import kernel
from schemas.codes import Reason


@kernel
def judge(state, rules, i, quantity, price):
    limits = state.limits[0]
    position = state.positions[i]
    now = state.account[0].time_ns
    if position.opened_ns == position.mark_ns:
        return 0, Reason.ONE_OPENING_A_BAR, 1, 1
    if position.switched_off == 1:
        return 0, Reason.SWITCHED_OFF, position.openings, limits.openings_per_day
    if position.openings >= limits.openings_per_day:
        position.switched_off = 1
        return 0, Reason.TOO_FREQUENT, position.openings, limits.openings_per_day
    recent = 0
    for k in range(RING):
        if position.opened_ring[k] > now - limits.window_ns:
            recent += 1
    if recent >= limits.openings_per_window:
        position.switched_off = 1
        return 0, Reason.TOO_FREQUENT, recent, limits.openings_per_window
    return quantity, Reason.NONE, recent, limits.openings_per_window


@kernel
def record_opening(position, now):
    """An opening order leaves now."""
    position.opened_ns = position.mark_ns
    position.openings += 1
    position.opened_ring[position.ring_next] = now
    position.ring_next = (position.ring_next + 1) % RING


@kernel
def start_session(position, limits):
    """A new session: the day's count starts anew, and a switched-off instrument is released where the rule
    says so.
    """
    position.openings = 0
    if limits.release_next_session == 1:
        position.switched_off = 0
