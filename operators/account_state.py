"""Everything the account stage knows, as arrays of bounded size. All fields are int64: money in millionths,
quantities in lots, times in nanoseconds, signals and weights in millionths. A snapshot is the bytes of
`State`; its hash is too.

| array | rows | bound |
|---|---|---|
| account | 1 | |
| positions | one an instrument | instruments in the configuration |
| orders | the live or last order of an instrument | the same: an instrument has one live order at most |
| sleeves | one a strategy and instrument it reads | strategies times signals |
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from operators.compiled import kernel
from schemas.codes import Stage
from schemas.records import Decision, Equity, Execution, Order, dtype_of

RING = 16  # openings the frequency gate remembers: the largest `openings_per_window` a configuration may have
STAGES = len(Stage)


def _fields(*names: str, **arrays: int) -> np.dtype[Any]:
    return np.dtype([(n, "<i8") for n in names] + [(n, "<i8", (k,)) for n, k in arrays.items()])


ACCOUNT = _fields(
    "time_ns",  # of the last applied group
    "session",  # index of the session in progress or last ended, -1 before the first
    "in_session",  # 1 from the first slice of a session to its close
    "cash",
    "reserved",  # worst-case cost of open buys
    "realised",  # before fees
    "fees",
    "costs",  # spread and slippage
    "equity",
    "peak_equity",
    "max_drawdown",
    "max_drawdown_share",  # of the peak, millionths
    "min_free_cash",  # lowest cash less reserved, at any time
    "sequence",  # of the next order or decision
    "execution_number",  # of the next execution
    # counters
    "bars",
    "late_slices",
    "signals",
    "signals_passed",
    "signals_noise",
    "signals_cooldown",
    "signals_invalid",
    "targets",
    "orders",
    "cancels",
    "fills",
    "illegal_transitions",
    "sessions",
    "sessions_not_flat",  # something held or open at the close
    "sessions_flat_late",  # something held or open later than the configured time before the close
    "flat_late",  # 1: so in the session in progress
    "groups",  # bar ends and ticks applied in sessions
    "capital_use",  # sum over groups of position value / equity, millionths
    refused=STAGES,  # by stage
    breaches=6,  # of principle 1 to 5, seen by the account itself; index 0 unused
)

POSITION = _fields(
    "quantity",
    "book",  # what the quantity cost, without fees
    "mark",  # last close
    "mark_ns",
    "volume",  # of the last bar
    "weight",  # share of equity that allocation wants, millionths
    "reweighted",  # the weight changed since the goal was set
    "goal",  # absolute target in lots, fixed when the weight changes
    "strategy",  # that changed the weight last
    "opened_ns",  # bar end of the last opening order
    "openings",  # opening orders this session
    "switched_off",  # by the frequency gate
    "carried",  # held at the close of an earlier session
    "ring_next",
    opened_ring=RING,  # times of the last opening orders
)

ORDER = _fields(
    "state",
    "side",
    "intent",
    "order_ns",
    "attempt",
    "quantity",
    "cumulative",
    "limit_price",
    "reference_price",
    "strategy",
    "bars",  # bars of its instrument since it was sent
    "decision",
)

SLEEVE = _fields("value", "tier", "instrument", "weight")

SLEEVE_RULE = _fields("strategy", "signal", "family", "share")
INSTRUMENT_RULE = _fields("family", "side", "first_sleeve", "last_sleeve", "first_member", "last_member")
TIER_RULE = _fields("family", "level", "score", "instrument", "weight")
FAMILY_RULE = _fields("first_tier", "last_tier", "hysteresis")
LIMITS = _fields(
    "paper",  # 1: the venue is inside the stage
    "interval_ns",
    "min_weight_change",
    "entries_stop_ns",
    "cancel_entries_ns",
    "exits_begin_ns",
    "flat_by_ns",
    "max_age_ns",
    "one_of_one_side",
    "openings_per_window",
    "window_ns",
    "openings_per_day",
    "release_next_session",
    "max_position_value",
    "max_position_share",
    "max_positions",
    "max_volume_share",
    "min_order_value",
    "buffer_share",
    "collar",
    "entry_lifetime_bars",
    "half_spread",
    "slippage",
    "commission_per_unit",
    "commission_share",
    "participation",
)

EVENT = np.dtype(
    [(n, "<i8") for n in ("kind", "time_ns", "instrument", "open", "high", "low", "close", "volume")],
)
"""A row of the journal. Its signals stand beside it: values (n, s) int64 and verdicts (n, s) uint8."""

Records = NDArray[Any]


class State(NamedTuple):
    """`words` is the whole state as (n,) int64; the others are views of it."""

    words: NDArray[np.int64]
    account: Records
    positions: Records
    orders: Records
    sleeves: Records


class Rules(NamedTuple):
    """What the configuration says, as arrays. Nothing in it changes during a run."""

    limits: Records
    instruments: Records
    sleeves: Records
    families: Records
    tiers: Records
    members: NDArray[
        np.int64
    ]  # instruments by family; an instrument's family stands at first_member..last_member
    session_open_ns: NDArray[np.int64]
    session_close_ns: NDArray[np.int64]


class Output(NamedTuple):
    """Buffers a kernel call fills. `counts`: rows used of orders, executions, decisions, equity."""

    orders: Records
    executions: Records
    decisions: Records
    equity: Records
    counts: NDArray[np.int64]


def state_of(words: NDArray[np.int64], rules: Rules) -> State:
    """The state held in `words`, which must have `state_words(rules)` elements."""
    views = []
    start = 0
    for dtype, rows in _layout(rules):
        end = start + dtype.itemsize // 8 * rows
        views.append(words[start:end].view(dtype).view(np.recarray))
        start = end
    if start != len(words):
        raise ValueError(f"a state of {len(words)} words does not fit these rules, which need {start}")
    return State(words, *views)


def state_words(rules: Rules) -> int:
    """Elements of the state's int64 vector."""
    return sum(dtype.itemsize // 8 * rows for dtype, rows in _layout(rules))


def _layout(rules: Rules) -> tuple[tuple[np.dtype[Any], int], ...]:
    instruments = len(rules.instruments)
    return ((ACCOUNT, 1), (POSITION, instruments), (ORDER, instruments), (SLEEVE, len(rules.sleeves)))


def records(dtype: np.dtype[Any], rows: int) -> Records:
    """Zeroed records with fields as attributes."""
    return np.zeros(rows, dtype).view(np.recarray)


@kernel
def rows_per_group(instruments):
    """Most rows of one output that one group of events can make: per instrument a fill, an expiry, an expiry
    at the close, an exit and an entry; and the ends of two sessions.
    """
    return 4 * instruments + 2


def new_output(instruments: int, rows: int) -> Output:
    """Buffers, not initialised, for `rows` rows of each output and one group of `instruments` more."""
    rows += 2 * rows_per_group(instruments)
    orders, executions, decisions, equity = (
        np.empty(rows, dtype_of(model)).view(np.recarray) for model in (Order, Execution, Decision, Equity)
    )
    return Output(orders, executions, decisions, equity, np.zeros(4, np.int64))
