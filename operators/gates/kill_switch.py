"""Kill switch: a killed account, or one that is selling everything, opens nothing."""

from operators.compiled import kernel
from schemas.codes import HaltLevel, Reason


@kernel
def judge(state, rules, i, quantity, price):
    account = state.account[0]
    if account.level >= HaltLevel.KILLED:
        return 0, Reason.KILLED, account.level, HaltLevel.HALTED
    if account.flattening != 0:
        return 0, Reason.FLATTENING, account.flattening, 0
    return quantity, Reason.NONE, account.level, HaltLevel.HALTED
