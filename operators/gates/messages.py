"""Messages: a bucket of messages to the venue that fills with time. An entry must leave the reserve in it
that cancels and exits live on; these spend from it too, down to nothing, and are never refused.

`account.tokens` counts messages times `MINUTE_NS`, so that it gains whole numbers in a nanosecond.
"""

from operators.compiled import kernel
from schemas.codes import Reason
from schemas.config import MINUTE_NS


@kernel
def refill(state, time_ns):
    """The bucket gains what the time since the last call is worth, up to full."""
    account = state.account[0]
    limits = state.limits[0]
    full = limits.message_burst * MINUTE_NS
    passed_ns = max(time_ns - account.tokens_ns, 0)
    # Longer than it takes to fill it, whose product with the rate might not fit 63 bits, it does not count.
    gained = min(passed_ns, full // limits.messages_per_minute + 1) * limits.messages_per_minute
    account.tokens = min(account.tokens + gained, full)
    account.tokens_ns = max(account.tokens_ns, time_ns)


@kernel
def spend(state):
    """A message leaves."""
    account = state.account[0]
    account.tokens = max(account.tokens - MINUTE_NS, 0)


@kernel
def judge(state, rules, i, quantity, price):
    left = state.account[0].tokens // MINUTE_NS
    needed = 1 + state.limits[0].message_reserve
    if left >= needed:
        return quantity, Reason.NONE, left, needed
    return 0, Reason.MESSAGE_LIMIT, left, needed
