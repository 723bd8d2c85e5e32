"""The halt level of the account: active < reducing < halted < killed."""

from operators.account_output import NO_BREAKER, record_alert
from operators.compiled import routine
from schemas.codes import AlertKind

NONE = -1  # no instrument, no strategy


@routine
def raise_level(state, out, level):
    """Raise the halt level to `level`, with an alert. A level that stands as high already stays: nothing
    automatic lowers it.
    """
    account = state.account[0]
    before = account.level
    if level > before:
        account.level = level
        record_alert(state, out, AlertKind.HALT_LEVEL, NO_BREAKER, NONE, NONE, before, level)
