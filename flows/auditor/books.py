"""What the recount keeps: arrays of bounded size, all fields int64. Money in millionths, quantities in lots,
times in nanoseconds.
"""

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Breach(IntEnum):
    """What can be found; `statements.py` says of which statement, and in words. Append new ones, never
    renumber: kernels kept on disk hold the numbers.
    """

    NEGATIVE_CASH = 0
    OPENING_WITHOUT_LIMIT = 1
    BOTH_SIDES = 2
    NOT_FLAT = 3
    FLAT_TOO_LATE = 4
    SECOND_OPENING = 5
    SHORT = 6
    CLOSING_CASH = 7
    RECONCILIATION = 8
    SECOND_EXIT = 9
    EXIT_BEYOND_POSITION = 10
    POSITION_DIFFERS = 11
    CASH_DIFFERS = 12
    CUMULATIVE_DIFFERS = 13
    OVERFILLED = 14
    APPLIED_TWICE = 15
    LATE_NOT_TOLD = 16
    LATE_TOLD_WRONGLY = 17
    FILL_AFTER_FINAL = 18
    ENDED_TWICE = 19
    END_OF_NO_ORDER = 20
    MEANINGLESS = 21
    ID_USED_AGAIN = 22
    NAMES_NO_ORDER = 23
    NAMES_ANOTHER_ORDER = 24
    NEW_WHILE_UNKNOWN = 25
    OPEN_AFTER_SESSION = 26
    FORGOTTEN_OPEN = 27
    CASH_AT_BAR_END = 28
    FEES_AT_BAR_END = 29
    EQUITY_NOT_THE_SUM = 30
    DOUBLE_ENTRY = 31
    NO_DECISION = 32
    DECISION_USED_TWICE = 33
    ANOTHER_DECISION = 34
    NOT_AS_APPROVED = 35
    REDUCTION_REFUSED = 36
    LEVEL_LOWERED = 37
    LEVEL_JUMPS = 38
    ENTRY_WHILE_HALTED = 39
    TRIPPED_TWICE = 40
    RELEASED_UNTRIPPED = 41
    ENTRY_WHILE_TRIPPED = 42
    DECISION_WITHOUT_ORDER = 43
    SEQUENCE_BREAKS = 44
    NUMBER_BREAKS = 45
    TIME_GOES_BACK = 46
    SESSION_WITHOUT_END = 47
    BEYOND_LIMIT = 48
    NO_BAR = 49
    OUTSIDE_BAR = 50


def _fields(*names: str) -> np.dtype[Any]:
    return np.dtype([(name, "<i8") for name in names])


TERM = _fields(
    "cash",  # at the start
    "flat_by_ns",  # before the close
    "fee_each",
    "fee_share",
    "tolerance",  # of a bar's range, millionths
)
TALLY = _fields(
    "sequence",  # of the next order, decision or alert
    "number",  # of the next execution
    "time_ns",
    "cash",  # now, from the executions alone
    "worst",  # what open buys could take
    "fees",
    "holding",  # instruments held
    "open",  # orders open
    "denied",  # instruments whose books the venue has contradicted
    "cash_denied",  # 1 from a contradiction until cash covers all open buys
    "level",
    "commanded_ns",  # time of the last alert, where it was a resume, else NONE
    "lowered_ns",  # time of the last alert, where it lowered the level and a resume must follow, else NONE
    "lowered_from",
    "lowered_to",
    "session",
    "judged",  # of principle 3 in this session: 1 when flat, 2 when not
    "late",  # the same: 1 by the venue, 2 by us
    "ended",  # 1: the session's end is recorded
    "valued",  # 1: the session has equity
    "touched",  # 1: the session has orders, executions or an end
    "noted",  # breaches of the row in hand
    "matched",  # 1: the next row of equity was right at a moment of its time
    "valued_ns",  # time and cash of the last equity
    "valued_cash",
    "known_ns",  # time of the last execution
    # counted, for the evidence
    "events",
    "low",  # least of cash, also less the worst
    "changes_of_side",
    "sessions",
    "orders",
    "cancels",
    "queries",
    "openings",
    "exits",
    "fills",
    "busts",
    "charges",
    "ends",
    "contradictions",
    "unknown",
    "decisions",
    "approved",
    "refused",
    "alerts",
    "levels",
    "breakers",
    "session_ends",
    "bar_ends",
    "bar_ends_flat",
    "priced",  # fills beside a bar
)
INSTRUMENT = _fields(
    "held",
    "buying",  # lots open to buy, to sell, and of both those of exits
    "selling",
    "exit_buying",
    "exit_selling",
    "exits",  # exits open
    "exposed",  # 1: held, or could be
    "denied",  # 1 from a contradiction by the venue until flat
    "denied_in",  # session of the last contradiction
    "flat_ns",  # since when nothing is held or open, NONE while something is
    "missing",  # lots of fills that the venue has told and not sent
    "unsettled",  # session, plus one, of the last alert that something of it does not fit
    "opened_ns",  # bar end of the last opening
    "entry_ns",  # the newest id: bar end and attempt, of entries and of exits
    "entry_attempt",
    "exit_ns",
    "exit_attempt",
    "next",  # place of the next order among its last
)
ORDER = _fields(
    "used",
    "order_ns",
    "intent",
    "attempt",
    "side",
    "quantity",
    "limit_price",
    "filled",  # its distinct fills, less busts
    "ended",
    "unknown",
    "alerted",
    "worst_each",
)
FAMILY = _fields("bulls", "bears", "denied", "facing")
DECISION = _fields("sequence", "time_ns", "instrument", "approved", "position", "used")
FOUND = _fields("breaches", "by_venue", "time_ns", "instrument", "seen", "due")
NOTE = _fields("kind", "by_venue", "instrument", "seen", "due")
PLACES = _fields("orders", "executions", "decisions", "alerts", "equity", "named")
"""Rows of the batch that are done, and the order that the next execution names."""
ID = _fields("way_0", "way_1", "way_2", "way_3", "way_4", "way_5", "way_6", "way_7")

Records = NDArray[Any]


class Terms(NamedTuple):
    """What the configuration and the calendar say. `family`, `side` (n,) int64: an instrument's family, -1
    for none, and 1 for its bull side, -1 for its bear side. `close_ns` (s,) int64.
    """

    term: Records
    family: NDArray[np.int64]
    side: NDArray[np.int64]
    close_ns: NDArray[np.int64]


class Books(NamedTuple):
    """`words` is the whole state as (n,) int64; the others are views of it."""

    words: NDArray[np.int64]
    tally: Records
    instruments: Records
    orders: Records
    families: Records
    decisions: Records
    ids: Records  # `WAYS` execution ids a bucket
    tripped: Records  # bits of the breakers, a row a strategy and a column an instrument, -1 first
    found: Records
    notes: Records
    places: Records


TRIPPED = _fields("bits")
