"""The end of the day as a machine: what the time left of the session asks for.

Driven by every event that has a time, slices and ticks alike, so it moves when the feed is dead. Within a
session a phase is never left backwards.
"""

from operators.compiled import kernel
from operators.gates.session import time_to_close
from schemas.codes import DayPhase


@kernel
def phase_at(left, limits):
    """The phase `left` ns before the close; outside a session `left` is negative."""
    if left < 0:
        return DayPhase.CLOSED
    if left <= limits.force_ns:
        return DayPhase.FORCE
    if left <= limits.reprice_ns:
        return DayPhase.REPRICE
    if left <= limits.exits_begin_ns:
        return DayPhase.EXITS
    if left <= limits.cancel_entries_ns:
        return DayPhase.CANCEL_ENTRIES
    if left <= limits.entries_stop_ns:
        return DayPhase.NO_ENTRIES
    return DayPhase.TRADING


@kernel
def pass_time(state, rules):
    """Move the day on to the account's time."""
    account = state.account[0]
    phase = phase_at(time_to_close(state, rules), state.limits[0])
    if phase == DayPhase.CLOSED or phase > account.day_phase:
        account.day_phase = phase
