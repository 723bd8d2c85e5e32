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
    EXECUTION = 2  # a venue's report
    CONTROL = 3  # an operator's command


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
    QUERY = 2  # what does the venue know of this order?


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
    """What a venue can report. A query is answered by what holds, with the fills sent again; or by
    `ABSENT`.
    """

    FILL = 0
    CANCELLED = 1
    EXPIRED = 2
    REJECTED = 3
    ACCEPTED = 4
    CANCEL_REFUSED = 5
    SUSPENDED = 6
    REPLACED = 7
    REPLACE_REFUSED = 8
    LOST = 9  # a gateway's word: time-out, 5xx, unparsable; the outcome of the last request is not known
    ABSENT = 10  # the venue knows no such order
    BUST = 11  # an earlier fill is undone
    FEE = 12  # a charge beside fills
    POSITION = 13  # statement: lots of one instrument the venue says we hold
    CASH = 14  # statement: cash the venue says we have


class Stage(IntEnum):
    """Which stage a decision comes from; `GATES` is the order of authority."""

    ALLOCATION = 0
    SESSION = 1
    FRESHNESS = 2
    CONFLICT = 3
    FREQUENCY = 4
    SIZE = 5
    CASH = 6
    LIFECYCLE = 7
    SESSION_END = 8
    KILL_SWITCH = 9
    HALT_LEVEL = 10
    BREAKERS = 11
    MESSAGES = 12
    RECONCILIATION = 13  # what is not understood of an instrument must be settled first
    CONTROL = 14


GATES = (
    Stage.KILL_SWITCH,
    Stage.HALT_LEVEL,
    Stage.BREAKERS,
    Stage.RECONCILIATION,
    Stage.SESSION,
    Stage.FRESHNESS,
    Stage.CONFLICT,
    Stage.FREQUENCY,
    Stage.SIZE,
    Stage.CASH,
    Stage.MESSAGES,
)


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
    KILLED = 19
    HALTED = 20
    REDUCING = 21
    FLATTENING = 22  # a kill, a command or a breaker sells everything
    DAILY_LOSS = 23
    RAPID_LOSS = 24
    CONSECUTIVE_LOSSES = 25
    STRATEGY_LOSS = 26
    UNUSUAL_TRADING = 27  # the adaptive breaker
    BLOCKED = 28  # the venue said something that does not fit
    REPRICE = 29  # an exit's limit is out of the market's reach
    EXIT_RETRIED = 30
    OVERSOLD = 31  # the venue sold more than was held: cover, or stop selling
    UNKNOWN_OUTCOME = 32
    MISSING_FILL = 33
    MESSAGE_LIMIT = 34


class PositionPhase(IntEnum):
    """Where a position stands. `EXITING` ends only in `FLAT`, confirmed."""

    FLAT = 0
    ENTERING = 1
    OPEN = 2
    EXITING = 3


class DayPhase(IntEnum):
    """The end-of-day machine: from `NO_ENTRIES` on it only goes forward, until the session is closed."""

    CLOSED = 0
    TRADING = 1
    NO_ENTRIES = 2
    CANCEL_ENTRIES = 3
    EXITS = 4  # limits at the collar
    REPRICE = 5  # limits at twice the collar
    FORCE = 6  # market orders


class HaltLevel(IntEnum):
    """What the account may still do. Automatic moves only go up; a signed resume goes down."""

    ACTIVE = 0
    REDUCING = 1  # no entries; strategies may still exit
    HALTED = 2  # signals count no more; exits only at the end of the day, or by a flatten
    KILLED = 3  # everything is cancelled and sold


class Breaker(IntEnum):
    """First those of the account, then of a strategy, of an instrument, of a strategy in an instrument."""

    DAILY_LOSS = 0
    RAPID_LOSS = 1
    DRAWDOWN = 2
    CONSECUTIVE_LOSSES = 3
    STRATEGY_LOSS = 4
    UNUSUAL_TRADING = 5
    EXIT_FAILURE = 6
    REPEATED_EXECUTION = 7


class ControlAction(IntEnum):
    """What an operator can ask for. Those from `RESUME` on add risk and need two keys."""

    REDUCE = 0
    HALT = 1
    KILL = 2
    FLATTEN = 3
    LOWER_LIMIT = 4
    RESUME = 5
    RELEASE = 6
    RAISE_LIMIT = 7


class ControlRefusal(IntEnum):
    """Why a command was not carried out."""

    NONE = 0
    MALFORMED = 1  # not decodable: the account halts
    FORGED = 2  # a signature is wrong or its key unknown: the account halts
    EXPIRED = 3
    REPLAYED = 4  # not newer than the newest command applied
    TOO_FEW_KEYS = 5
    NOT_APPLICABLE = 6  # nothing such to release, or a limit out of its range


class AlertKind(IntEnum):
    """What an owner must know at once."""

    BREAKER_TRIPPED = 0
    BREAKER_RELEASED = 1
    HALT_LEVEL = 2  # observed: the level before; limit: now
    COMMAND = 3  # carried out; observed: its id; limit: ControlAction
    COMMAND_REFUSED = 4  # limit: ControlRefusal
    NO_ANSWER = 5  # the venue did not answer in time; the outcome is unknown
    UNKNOWN_OUTCOME = 6  # a gateway says so
    ABSENCE_PROVEN = 7
    MISSING_FILL = 8  # observed: cumulative by the venue; limit: by its fills
    LATE_FILL = 9  # of an order that had ended
    OVERFILL = 10
    CONTRADICTION = 11  # a fill of a rejected order
    WRONG_SIDE = 12
    EXTERNAL_ORDER = 13
    EXECUTION_ALTERED = 14  # the id of an applied execution with other content; not applied
    EXECUTION_REFUSED = 15  # a report that means nothing: quantity or price not positive, unknown instrument
    BUST = 16
    ILLEGAL_TRANSITION = 17  # observed: state; limit: event
    EXIT_FAILED = 18
    NOT_FLAT = 19  # at the close
    RECONCILIATION = 20  # observed: by the venue; limit: by the ledger
    PRINCIPLE = 21  # observed: which
    NEGATIVE_CASH = 22  # by a fill that the venue had denied before
    OVERSOLD = 23
    CONFLICT = 24  # both sides held, by a fill that the venue had denied before
