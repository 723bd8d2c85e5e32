"""The life of an order as a table.

`TRANSITIONS[state][event]` is the next state; a pair that is not in it is illegal: the state does not move.
Quantity does not depend on this table: it moves by execution alone, also where a fill comes late.
"""

import numpy as np

from operators.compiled import kernel
from schemas.codes import ExecutionKind
from schemas.codes import OrderEvent as E
from schemas.codes import OrderState as S

ILLEGAL = -1

_ENDS = {E.CANCEL: S.CANCELLED, E.EXPIRE: S.EXPIRED}
_FILLS = {E.FILL: S.PARTIAL, E.FILL_LAST: S.FILLED}
_OPEN = {
    **_FILLS,
    **_ENDS,
    E.CANCEL_REQUEST: S.PENDING_CANCEL,
    E.REPLACE_REQUEST: S.PENDING_REPLACE,
    E.SUSPEND: S.SUSPENDED,
    E.REPLACE: S.REPLACED,
}
_LATE = {E.FILL: "keep", E.FILL_LAST: "keep"}  # applied to the position and flagged, the life is over

TRANSITIONS: dict[S, dict[E, S]] = {
    S.NONE: {},
    S.CREATED: {E.SUBMIT: S.SUBMITTED, E.DENY: S.DENIED},
    S.SUBMITTED: {
        **_FILLS,
        **_ENDS,
        E.ACCEPT: S.WORKING,
        E.REJECT: S.REJECTED,
        E.LOSE: S.UNKNOWN,
        E.CANCEL_REQUEST: S.PENDING_CANCEL,
    },
    S.UNKNOWN: {
        **_FILLS,
        **_ENDS,
        E.ACCEPT: S.WORKING,
        E.REJECT: S.REJECTED,
        E.SUSPEND: S.SUSPENDED,
        E.REPLACE: S.REPLACED,
        E.CANCEL_REQUEST: S.PENDING_CANCEL,
        E.CANCEL_REFUSED: S.WORKING,  # what it was is known again
        E.REPLACE_REFUSED: S.WORKING,
    },
    S.WORKING: {**_OPEN, E.REJECT: S.REJECTED},
    S.PARTIAL: {**_OPEN, E.ACCEPT: S.PARTIAL},  # the fill came before the acknowledgement
    S.PENDING_CANCEL: {
        E.FILL: S.PENDING_CANCEL,
        E.FILL_LAST: S.FILLED,
        **_ENDS,
        E.ACCEPT: S.PENDING_CANCEL,
        E.REJECT: S.REJECTED,  # of the order itself, when the cancel crossed it
        E.CANCEL_REFUSED: S.WORKING,
        E.LOSE: S.UNKNOWN,
    },
    S.PENDING_REPLACE: {
        E.FILL: S.PENDING_REPLACE,
        E.FILL_LAST: S.FILLED,
        **_ENDS,
        E.ACCEPT: S.PENDING_REPLACE,
        E.REPLACE: S.REPLACED,
        E.REPLACE_REFUSED: S.WORKING,
    },
    S.SUSPENDED: {**_FILLS, **_ENDS, E.ACCEPT: S.WORKING},
    S.FILLED: {},
    S.DENIED: {},
    S.REJECTED: {},
    S.CANCELLED: dict.fromkeys(_LATE, S.CANCELLED),
    S.EXPIRED: dict.fromkeys(_LATE, S.EXPIRED),
    S.REPLACED: dict.fromkeys(_LATE, S.REPLACED),
}

NEXT_STATE = np.full((len(S), len(E)), ILLEGAL, np.int64)
for _state, _row in TRANSITIONS.items():
    for _event, _next in _row.items():
        NEXT_STATE[_state, _event] = _next

REPORT_EVENT = np.full(len(ExecutionKind), ILLEGAL, np.int64)
"""What a report on the state of an order means for its life. Fills are judged by their quantity."""
for _kind, _event in {
    ExecutionKind.CANCELLED: E.CANCEL,
    ExecutionKind.EXPIRED: E.EXPIRE,
    ExecutionKind.REJECTED: E.REJECT,
    ExecutionKind.ACCEPTED: E.ACCEPT,
    ExecutionKind.CANCEL_REFUSED: E.CANCEL_REFUSED,
    ExecutionKind.SUSPENDED: E.SUSPEND,
    ExecutionKind.REPLACED: E.REPLACE,
    ExecutionKind.REPLACE_REFUSED: E.REPLACE_REFUSED,
    ExecutionKind.LOST: E.LOSE,
}.items():
    REPORT_EVENT[_kind] = _event

ENDED = {
    S.FILLED: ExecutionKind.FILL,
    S.DENIED: ExecutionKind.REJECTED,
    S.REJECTED: ExecutionKind.REJECTED,
    S.CANCELLED: ExecutionKind.CANCELLED,
    S.EXPIRED: ExecutionKind.EXPIRED,
    S.REPLACED: ExecutionKind.REPLACED,
}
STALE = np.zeros((len(S), len(ExecutionKind)), np.bool_)
"""Reports that come late, or twice, and say nothing new: the end again, what was so before it, the refusal of
a cancel that crossed it, a time-out, and what a working order is anyway.
"""
for _state, _end in ENDED.items():
    for _kind in (_end, ExecutionKind.ACCEPTED, ExecutionKind.CANCEL_REFUSED, ExecutionKind.LOST):
        STALE[_state, _kind] = True
for _state in (S.UNKNOWN, S.WORKING, S.PARTIAL, S.SUSPENDED, S.PENDING_REPLACE):
    STALE[_state, ExecutionKind.LOST] = True
for _state in (S.WORKING, S.PARTIAL):
    STALE[_state, ExecutionKind.ACCEPTED] = True
    STALE[_state, ExecutionKind.CANCEL_REFUSED] = True

LIVE = np.zeros(len(S), np.bool_)
"""States in which an order could still fill."""
for _state in (
    S.CREATED,
    S.SUBMITTED,
    S.UNKNOWN,
    S.WORKING,
    S.PARTIAL,
    S.PENDING_CANCEL,
    S.PENDING_REPLACE,
    S.SUSPENDED,
):
    LIVE[_state] = True


@kernel
def advance(order, event):
    """Move the order's life by `event`. False, and nothing moves, where the table has no such transition."""
    following = NEXT_STATE[order.state, event]
    if following == ILLEGAL:
        return False
    if following == S.WORKING and order.cumulative > 0:
        following = S.PARTIAL  # back from a refused cancel or a suspension: what was filled stays filled
    order.state = following
    return True


@kernel
def is_live(order):
    """Could this order still fill?"""
    return LIVE[order.state]
