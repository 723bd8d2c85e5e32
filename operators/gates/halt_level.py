"""Halt level: only an active account opens anything."""

from operators.compiled import kernel
from schemas.codes import HaltLevel, Reason


@kernel
def judge(state, rules, i, quantity, price):
    level = state.account[0].level
    if level == HaltLevel.ACTIVE:
        return quantity, Reason.NONE, level, HaltLevel.ACTIVE
    if level == HaltLevel.REDUCING:
        return 0, Reason.REDUCING, level, HaltLevel.ACTIVE
    return 0, Reason.HALTED, level, HaltLevel.ACTIVE
