"""Daily loss: the account has lost a share of the equity it began the session with. It sells everything and
opens nothing, until the next session or an operator, as configured.
"""

from operators.breakers.switch import is_reached, part_of, release, trip
from operators.compiled import kernel
from schemas.codes import Breaker

NONE = -1


@kernel
def start_session(state, rules, out):
    if state.limits[0].daily_loss_next_session == 1:
        release(state, out, Breaker.DAILY_LOSS, Breaker.DAILY_LOSS, NONE, NONE)


@kernel
def measure(state, out):
    account = state.account[0]
    loss = account.session_equity - account.equity
    limit = part_of(account.session_equity, state.limits[0].daily_loss)
    if is_reached(loss, limit):
        trip(state, out, Breaker.DAILY_LOSS, Breaker.DAILY_LOSS, NONE, NONE, loss, limit, 0)


@kernel
def release_by_operator(state, out):
    """The loss so far is accepted: the session's loss counts from here."""
    if not release(state, out, Breaker.DAILY_LOSS, Breaker.DAILY_LOSS, NONE, NONE):
        return False
    state.account[0].session_equity = state.account[0].equity
    return True
