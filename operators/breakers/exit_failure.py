"""Exit failure: an exit that does not get done becomes urgent, and several at once kill the account.

An exit has failed when its order ended without our asking; it stands still while nothing of it fills. Time
outside sessions does not count: nothing can fill then.
"""

from operators.account_state import exit_breaker
from operators.breakers.switch import release, trip
from operators.compiled import kernel, routine
from operators.halt import raise_level
from schemas.codes import Breaker, HaltLevel, PositionPhase

NONE = -1
DOUBLINGS = 6  # the wait between attempts grows no further


@routine
def exit_failed(state, rules, out, i):
    """An exit order of instrument `i` was rejected, expired or cancelled by the venue."""
    position = state.positions[i]
    position.exit_failures += 1
    wait_ns = state.limits[0].retry_ns
    for _ in range(min(position.exit_failures - 1, DOUBLINGS)):
        wait_ns *= 2
    position.retry_ns = state.account[0].time_ns + wait_ns
    judge_exit(state, rules, out, i)


@kernel
def check_exits(state, rules, out):
    """Look at every exit in progress."""
    for i in range(len(state.positions)):
        judge_exit(state, rules, out, i)


@kernel
def judge_exit(state, rules, out, i):
    """Escalate an exit that has failed too often, or has stood still for too long."""
    account = state.account[0]
    limits = state.limits[0]
    position = state.positions[i]
    if position.phase != PositionPhase.EXITING:
        return
    still_ns = 0
    if account.in_session == 1:
        still_ns = account.time_ns - max(position.progress_ns, rules.session_open_ns[account.session])
    if position.exit_failures >= limits.exit_attempts:
        escalate(state, rules, out, i, position.exit_failures, limits.exit_attempts)
    elif still_ns > limits.no_progress_ns:
        escalate(state, rules, out, i, still_ns, limits.no_progress_ns)


@routine
def escalate(state, rules, out, i, observed, limit):
    position = state.positions[i]
    position.urgency = 1
    place = exit_breaker(rules, i)
    if not trip(state, out, place, Breaker.EXIT_FAILURE, i, NONE, observed, limit, 0):
        return
    failures = 0
    for k in range(len(state.positions)):
        failures += state.breakers[exit_breaker(rules, k)].tripped
    if failures >= state.limits[0].kill_at_failures:
        raise_level(state, out, HaltLevel.KILLED)
        state.account[0].flattening = 1


@kernel
def exit_settled(state, rules, out, i):
    """Instrument `i` is flat."""
    start_anew(state, i)
    release(state, out, exit_breaker(rules, i), Breaker.EXIT_FAILURE, i, NONE)


@kernel
def release_by_operator(state, rules, out, i):
    """The exit in progress begins anew, with all its attempts and its time."""
    place = exit_breaker(rules, i)
    if not release(state, out, place, Breaker.EXIT_FAILURE, i, NONE):
        return False
    start_anew(state, i)
    state.positions[i].progress_ns = state.account[0].time_ns
    return True


@kernel
def start_anew(state, i):
    position = state.positions[i]
    position.urgency = 0
    position.exit_failures = 0
    position.retry_ns = 0
