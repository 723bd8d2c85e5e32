"""Session gate: no entry outside the session or shortly before its close."""

from operators.compiled import kernel
from schemas.codes import Reason


@kernel
def time_to_close(state, rules):
    """Nanoseconds to the close of the session in progress; -1 outside any."""
    account = state.account[0]
    if account.in_session == 0:
        return -1
    return rules.session_close_ns[account.session] - account.time_ns


@kernel
def judge(state, rules, i, quantity, price):
    limit = state.limits[0].entries_stop_ns
    left = time_to_close(state, rules)
    if left < 0:
        return 0, Reason.OUTSIDE_SESSION, left, limit
    if left <= limit:
        return 0, Reason.ENTRIES_STOPPED, left, limit
    return quantity, Reason.NONE, left, limit
