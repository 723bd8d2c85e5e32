"""Enumerations shared by records, kernels and tests.

Inside kernels a code is a small integer; on the wire and in Parquet it is its lower-case name. Codes are part
of snapshots and recordings: append new ones, never renumber.
"""

from enum import IntEnum


class DeadLetter(IntEnum):
    """Why a record was refused at the edge. 0 means it was not."""

    NONE = 0
    MALFORMED = 1  # not decodable: syntax, encoding, nesting, truncated, trailing bytes
    OVERSIZE = 2
    DUPLICATE_KEY = 3
    MISSING_FIELD = 4  # absent or null
    WRONG_TYPE = 5
    UNKNOWN_FIELD = 6
    UNKNOWN_ENUM = 7
    WRONG_VERSION = 8
    UNKNOWN_SYMBOL = 9
    NOT_FINITE = 10  # NaN or infinity
    PRICE_NOT_POSITIVE = 11
    PRICE_TOO_LARGE = 12
    HIGH_BELOW_LOW = 13
    OUTSIDE_RANGE = 14  # open or close outside [low, high]
    NEGATIVE_VOLUME = 15
    VOLUME_TOO_LARGE = 16
    TIME_OUT_OF_RANGE = 17  # outside the configured calendar: wrong unit, very old, far future
    WRONG_INTERVAL = 18
    OUTSIDE_SESSION = 19
    OFF_GRID = 20
    DUPLICATE = 21
    CORRECTION = 22  # same bar end, other content
    OUT_OF_ORDER = 23
    PRICE_JUMP = 24  # quarantined
    TIME_JUMP = 25  # quarantined
    WRONG_KEY = 26


class Verdict(IntEnum):
    """What the signal filter said of one strategy's signal at one bar."""

    ABSENT = 0  # the strategy does not run on this symbol
    PENDING = 1  # warming up
    NEUTRAL = 2
    PASSED = 3
    REFUSED_NOISE = 4
    REFUSED_COOLDOWN = 5
    INVALID = 6  # not finite or out of range: the strategy is off


class EventKind(IntEnum):
    """Rows of the journal."""

    SLICE = 0  # marks and filtered signals of one symbol at one bar end
    TICK = 1
    EXECUTION = 2
    CONTROL = 3


class Side(IntEnum):
    BUY = 0
    SELL = 1


class Intent(IntEnum):
    """What an order is for. An entry adds exposure, an exit only removes it."""

    ENTRY = 0
    EXIT = 1


class OrderKind(IntEnum):
    NEW = 0
    CANCEL = 1


class OrderState(IntEnum):
    """Life cycle of an order. `NONE` is an empty slot."""

    NONE = 0
    CREATED = 1
    SUBMITTED = 2
    UNKNOWN = 3
    WORKING = 4
    PARTIAL = 5
    PENDING_CANCEL = 6
    PENDING_REPLACE = 7
    SUSPENDED = 8
    FILLED = 9
    DENIED = 10
    REJECTED = 11
    CANCELLED = 12
    EXPIRED = 13
    REPLACED = 14


class OrderEvent(IntEnum):
    """What can happen to an order."""

    SUBMIT = 0
    DENY = 1
    ACCEPT = 2
    FILL = 3  # some quantity remains
    FILL_LAST = 4  # nothing remains
    CANCEL_REQUEST = 5
    CANCEL_REFUSED = 6
    CANCEL = 7
    REPLACE_REQUEST = 8
    REPLACE_REFUSED = 9
    REPLACE = 10
    REJECT = 11
    EXPIRE = 12
    SUSPEND = 13
    LOSE = 14  # time-out, unparsable answer: the outcome is not known


class ExecutionKind(IntEnum):
    """A venue's report on an order."""

    FILL = 0
    CANCELLED = 1
    EXPIRED = 2
    REJECTED = 3


class Stage(IntEnum):
    """Which stage a decision comes from. Gates stand in their order of authority."""

    ALLOCATION = 0
    SESSION = 1
    FRESHNESS = 2
    CONFLICT = 3
    FREQUENCY = 4
    SIZE = 5
    CASH = 6
    LIFECYCLE = 7
    SESSION_END = 8


class Outcome(IntEnum):
    APPROVED = 0
    REDUCED = 1
    REFUSED = 2
    RECORDED = 3  # a fact, not a judgement


class Reason(IntEnum):
    """Why a stage decided as it did."""

    NONE = 0
    TARGET = 1  # the strategy's target differs from the position
    END_OF_DAY = 2  # the session gate flattens
    ENTRIES_STOPPED = 3  # too close to the session's close
    OUTSIDE_SESSION = 4
    STALE_DATA = 5
    OPPOSITE_SIDE = 6  # the other side of the family is held or could still fill
    SAME_SIDE = 7  # another instrument of this side, where one alone is allowed
    ONE_OPENING_A_BAR = 8
    TOO_FREQUENT = 9
    SWITCHED_OFF = 10
    POSITION_LIMIT = 11
    VOLUME_LIMIT = 12
    COUNT_LIMIT = 13
    TOO_SMALL = 14
    CASH = 15
    TARGET_WITHDRAWN = 16  # an entry is cancelled because its target fell
    CARRIED_OVER = 17  # held since an earlier session
    STATE_HASH = 18
