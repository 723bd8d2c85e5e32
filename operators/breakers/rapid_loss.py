"""Rapid loss: equity has fallen a share below its highest within a window. No entries for a while.

The window is a ring of buckets of time with the highest equity of each, so it is exact to one bucket.
"""

from operators.account_state import BUCKETS
from operators.breakers.switch import is_due, is_reached, part_of, release, trip
from operators.compiled import kernel
from schemas.codes import Breaker

NONE = -1


@kernel
def measure(state, out):
    account = state.account[0]
    limits = state.limits[0]
    if is_due(state, Breaker.RAPID_LOSS):
        let_go(state, out)
    top = highest(account, account.time_ns // limits.rapid_bucket_ns)
    loss = top - account.equity
    limit = part_of(top, limits.rapid_loss)
    if is_reached(loss, limit):
        until_ns = account.time_ns + limits.rapid_pause_ns
        trip(state, out, Breaker.RAPID_LOSS, Breaker.RAPID_LOSS, NONE, NONE, loss, limit, until_ns)


@kernel
def highest(account, bucket):
    """Put equity into its bucket, forget those that have left the window, and return the highest."""
    if bucket != account.bucket:
        passed = bucket - account.bucket
        if passed < 0 or passed > BUCKETS:  # a gap, or buckets of another length
            passed = BUCKETS
        for k in range(passed):
            account.highest[(bucket - k) % BUCKETS] = 0
        account.bucket = bucket
    slot = bucket % BUCKETS
    account.highest[slot] = max(account.highest[slot], account.equity)
    top = 0
    for k in range(BUCKETS):
        top = max(top, account.highest[k])
    return top


@kernel
def let_go(state, out):
    """A fall counts once: after a release the window starts anew."""
    if not release(state, out, Breaker.RAPID_LOSS, Breaker.RAPID_LOSS, NONE, NONE):
        return False
    for k in range(BUCKETS):
        state.account[0].highest[k] = 0
    return True
