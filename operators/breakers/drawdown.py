"""Drawdown: equity has fallen a share below its peak. Targets are smaller until it has recovered."""

from operators.breakers.switch import is_reached, part_of, release, trip
from operators.compiled import kernel
from schemas.codes import Breaker

NONE = -1


@kernel
def measure(state, out):
    account = state.account[0]
    limits = state.limits[0]
    account.drawdown_peak = max(account.drawdown_peak, account.equity)
    fall = account.drawdown_peak - account.equity
    limit = part_of(account.drawdown_peak, limits.drawdown)
    if is_reached(fall, limit):
        trip(state, out, Breaker.DRAWDOWN, Breaker.DRAWDOWN, NONE, NONE, fall, limit, 0)
    elif fall <= part_of(account.drawdown_peak, limits.drawdown_release):
        release(state, out, Breaker.DRAWDOWN, Breaker.DRAWDOWN, NONE, NONE)


@kernel
def release_by_operator(state, out):
    """The fall so far is accepted: the next one counts from here."""
    if not release(state, out, Breaker.DRAWDOWN, Breaker.DRAWDOWN, NONE, NONE):
        return False
    state.account[0].drawdown_peak = state.account[0].equity
    return True
