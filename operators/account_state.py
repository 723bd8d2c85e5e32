"""Everything the account stage knows, as arrays of bounded size. All fields are int64: money in millionths,
quantities in lots, times in nanoseconds, signals and weights in millionths. A snapshot is the bytes of
`State`; its hash is too.

| array | rows | bound |
|---|---|---|
| account | 1 | |
| limits | 1 | the configured limits, as operators have changed them since |
| positions | one an instrument | instruments in the configuration |
| orders | the live or last order of an instrument | the same: an instrument has one live order at most |
| past | the `PAST` orders before it, for reports that come late | `PAST` times instruments |
| holdings | a strategy in an instrument it can hold, and an instrument for none | the configuration |
| strategies | one a strategy | |
| sleeves | one a strategy and instrument it reads | strategies times signals |
| breakers | see `account_breaker` and its sisters | |
| seen, seen_hash | the last `SEEN` execution ids and the hashes of their content | `SEEN` |
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from operators.compiled import kernel
from schemas.codes import Breaker, Stage
from schemas.records import Alert, Decision, Equity, Execution, Order, Report, dtype_of

RING = 16  # openings the frequency gate remembers: the largest `openings_per_window` a configuration may have
PAST = 8
SEEN = 1024
BUCKETS = 16  # of the window of the rapid loss
STAGES = len(Stage)
ACCOUNT_BREAKERS = (Breaker.DAILY_LOSS, Breaker.RAPID_LOSS, Breaker.DRAWDOWN)
STRATEGY_BREAKERS = (Breaker.CONSECUTIVE_LOSSES, Breaker.STRATEGY_LOSS, Breaker.UNUSUAL_TRADING)
N_ACCOUNT, N_STRATEGY = len(ACCOUNT_BREAKERS), len(STRATEGY_BREAKERS)


def _fields(*names: str, **arrays: int) -> np.dtype[Any]:
    return np.dtype([(n, "<i8") for n in names] + [(n, "<i8", (k,)) for n, k in arrays.items()])


ACCOUNT = _fields(
    "offset",  # rows of the journal applied
    "time_ns",  # of the last applied group
    "session",  # index of the session in progress or last ended, -1 before the first
    "in_session",  # 1 from the first event of a session to its close
    "day_phase",
    "level",  # halt level
    "flattening",  # 1: sell everything; a kill or a command, until flat
    "command_id",  # of the newest command applied
    "cash",
    "reserved",  # worst-case cost of open buys
    "realised",  # before fees
    "fees",
    "costs",  # spread and slippage
    "equity",
    "session_equity",  # at the session's first event
    "peak_equity",
    "drawdown_peak",  # of the drawdown breaker: the peak, or equity when an operator released it
    "max_drawdown",
    "max_drawdown_share",  # of the peak, millionths
    "min_free_cash",  # lowest cash less reserved, at any time
    "bucket",  # of the rapid loss: number of the newest, time over its length
    "tokens",  # messages left in the bucket, times a minute in ns
    "tokens_ns",
    "sequence",  # of the next order, decision or alert
    "execution_number",  # of the next execution
    "seen_next",
    "newest_execution",  # highest execution id so far
    "doubts",  # 1: some order is doubted
    "cash_denied",  # 1 from a contradiction of the venue until cash covers all open buys
    "overflow",  # rows that did not fit an output: a bound was reached, the run stops
    # counters
    "bars",
    "late_slices",
    "repeated_slices",
    "ticks",
    "reports",
    "repeated_reports",
    "refused_reports",
    "commands",
    "signals",
    "signals_passed",
    "signals_noise",
    "signals_cooldown",
    "signals_invalid",
    "targets",
    "orders",
    "cancels",
    "queries",
    "fills",
    "busts",
    "late_fills",
    "alerts",
    "illegal_transitions",
    "sessions",
    "sessions_not_flat",  # something held or open at the close
    "sessions_flat_late",  # something held or open later than the configured time before the close
    "flat_late",  # 1: so in the session in progress
    "groups",  # bar ends and ticks applied in sessions
    "capital_use",  # sum over groups of position value / equity, millionths
    highest=BUCKETS,  # equity in each bucket of the rapid loss's window
    refused=STAGES,  # by stage
    breaches=6,  # of principle 1 to 5, seen by the account itself; index 0 unused
    denied=6,  # the same, while the venue contradicted itself: a fill it had denied, a bust
)

POSITION = _fields(
    "quantity",  # sum over the holdings
    "book",  # what the quantity cost, without fees; sum over the holdings
    "mark",  # last close
    "mark_ns",
    "volume",  # of the last bar
    "weight",  # share of equity that allocation wants, millionths
    "reweighted",  # the weight changed since the goal was set
    "goal",  # absolute target in lots, fixed when the weight changes
    "strategy",  # that changed the weight last
    "phase",  # PositionPhase
    "urgency",  # of the exit in progress: 0 as the day says, 1 forced
    "exit_stage",  # why the exit in progress began: stage and reason of its first decision
    "exit_reason",
    "exit_failures",
    "progress_ns",  # when the exit in progress began or last filled
    "retry_ns",  # no new exit before this
    "blocked",  # Reason why nothing may be added, 0 none: to be settled by fills, a statement or an operator
    "denied",  # 1 from a contradiction of the venue until flat
    "attempt_ns",  # bar end of the last order
    "attempt",
    "opened_ns",  # bar end of the last opening order
    "carried",  # held at the close of an earlier session
    "past_next",
)

ORDER = _fields(
    "state",
    "side",
    "intent",
    "order_ns",
    "attempt",
    "quantity",
    "cumulative",  # sum of its distinct fills
    "told",  # highest cumulative a report has named
    "busted",  # lots of it that busts have undone
    "limit_price",
    "reference_price",
    "expires_ns",
    "strategy",
    "decision",
    "sent_ns",
    "asked_ns",  # when the last request without an answer left, 0 none
    "query_ns",  # when it was last asked for
    "doubted",  # 1: to be asked for, whatever its state
    "alerted",  # 1: that its answer is late
    "absences",  # answers in a row that the venue does not know it
    "absent_ns",  # time of the first of them
    "cancel_asked",  # 1: by us
)

HOLDING = _fields(
    "quantity",
    "book",
    "realised",
    "fees",
    "trade",  # result of the round trip in progress, after fees
    "openings",  # opening orders this session
    "ring_next",
    opened_ring=RING,  # times of the last opening orders
)

MEASURES = 3  # of the adaptive breaker: openings, flips, costs
STRATEGY = _fields(
    "losses",  # round trips lost in a row
    "result",  # realised and unrealised, after fees
    "best",  # highest result since the loss breaker was last released
    "facing",  # instrument last opened, -1 none
    "blocks",  # of bars, completed: the length of the profile's experience
    "bars",  # in the block in progress
    "spacing_ns",  # no opening before this, while slowed down
    count=MEASURES,  # in the block in progress
    usual=MEASURES,  # by the profile, a block, thousandths
    spread=MEASURES,  # mean absolute deviation, thousandths
)

BREAKER = _fields(
    "tripped",
    "tripped_ns",
    "until_ns",  # released at this time; 0: by a rule of its own or an operator
    "observed",
    "limit",
    "trips",
)

SLEEVE = _fields("value", "tier", "instrument", "weight")

SLEEVE_RULE = _fields("strategy", "signal", "family", "share")
HOLDING_RULE = _fields("strategy", "instrument")
STRATEGY_RULE = _fields("share")
INSTRUMENT_RULE = _fields(
    "family",
    "side",
    "first_sleeve",
    "last_sleeve",
    "first_member",
    "last_member",
    "first_holding",  # the last of them is of no strategy
    "last_holding",
)
TIER_RULE = _fields("family", "level", "score", "instrument", "weight")
FAMILY_RULE = _fields("first_tier", "last_tier", "hysteresis")
LIMITS = _fields(
    "paper",  # 1: the venue is inside the stage
    "interval_ns",
    "min_weight_change",
    "entries_stop_ns",
    "cancel_entries_ns",
    "exits_begin_ns",
    "reprice_ns",
    "force_ns",
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
    "message_burst",
    "messages_per_minute",
    "message_reserve",
    "daily_loss",
    "daily_loss_next_session",
    "rapid_loss",
    "rapid_bucket_ns",
    "rapid_pause_ns",
    "drawdown",
    "drawdown_factor",
    "drawdown_release",
    "losses_in_a_row",
    "losses_pause_ns",
    "strategy_loss",
    "strategy_pause_ns",
    "exit_attempts",
    "no_progress_ns",
    "kill_at_failures",
    "slow_at",
    "stop_at",
    "entry_lifetime_bars",
    "exit_collar",
    "retry_ns",
    "answer_ns",
    "query_ns",
    "absence_answers",
    "absence_ns",
    "half_spread",
    "slippage",
    "commission_per_unit",
    "commission_share",
    "participation",
)

EVENT = _fields("kind", "time_ns", "instrument", "detail", "open", "high", "low", "close", "volume")
"""A row of the journal. The signals of a slice stand beside it: values (n, s) int64, verdicts (n, s) uint8.
`detail`: the row of `reports` or `commands` that an execution or a control is.
"""

REPORT = dtype_of(Report)

COMMAND = _fields(
    "action",
    "command_id",
    "expires_ns",
    "keys",  # different operators whose signature is right
    "breaker",
    "strategy",
    "instrument",
    "limit",  # place in LIMITS
    "value",
    "refusal",  # ControlRefusal of whoever read it, 0 none
)

Records = NDArray[Any]


class State(NamedTuple):
    """`words` is the whole state as (n,) int64; the others are views of it."""

    words: NDArray[np.int64]
    account: Records
    limits: Records
    positions: Records
    orders: Records
    past: Records
    holdings: Records
    strategies: Records
    sleeves: Records
    breakers: Records
    seen: NDArray[np.int64]
    seen_hash: NDArray[np.int64]


class Rules(NamedTuple):
    """What the configuration says, as arrays. Nothing in it changes during a run."""

    limits: Records  # at the start
    instruments: Records
    holdings: Records
    strategies: Records
    sleeves: Records
    families: Records
    tiers: Records
    members: NDArray[
        np.int64
    ]  # instruments by family; an instrument's family stands at first_member..last_member
    session_open_ns: NDArray[np.int64]
    session_close_ns: NDArray[np.int64]


class Output(NamedTuple):
    """Buffers a kernel call fills. `counts`: rows used of orders, executions, decisions, equity, alerts."""

    orders: Records
    executions: Records
    decisions: Records
    equity: Records
    alerts: Records
    counts: NDArray[np.int64]


def state_of(words: NDArray[np.int64], rules: Rules) -> State:
    """The state held in `words`, which must have `state_words(rules)` elements."""
    views: list[Any] = []
    start = 0
    for dtype, rows in _layout(rules):
        end = start + dtype.itemsize // 8 * rows
        part = words[start:end]
        views.append(part.view(dtype).view(np.recarray) if dtype.names else part)
        start = end
    if start != len(words):
        raise ValueError(f"a state of {len(words)} words does not fit these rules, which need {start}")
    return State(words, *views)


def state_words(rules: Rules) -> int:
    """Elements of the state's int64 vector."""
    return sum(dtype.itemsize // 8 * rows for dtype, rows in _layout(rules))


def _layout(rules: Rules) -> tuple[tuple[np.dtype[Any], int], ...]:
    instruments, strategies, holdings = len(rules.instruments), len(rules.strategies), len(rules.holdings)
    word = np.dtype("<i8")
    return (
        (ACCOUNT, 1),
        (LIMITS, 1),
        (POSITION, instruments),
        (ORDER, instruments),
        (ORDER, PAST * instruments),
        (HOLDING, holdings),
        (STRATEGY, strategies),
        (SLEEVE, len(rules.sleeves)),
        (BREAKER, N_ACCOUNT + N_STRATEGY * strategies + instruments + holdings),
        (word, SEEN),
        (word, SEEN),
    )


# Places in `breakers`.


@kernel
def strategy_breaker(breaker, s):
    """Of strategy `s`; `breaker` is one of STRATEGY_BREAKERS. Those of the account stand at their code."""
    return N_STRATEGY * s + breaker


@kernel
def exit_breaker(rules, i):
    """EXIT_FAILURE of instrument `i`."""
    return N_ACCOUNT + N_STRATEGY * len(rules.strategies) + i


@kernel
def opening_breaker(rules, h):
    """REPEATED_EXECUTION of holding `h`."""
    return N_ACCOUNT + N_STRATEGY * len(rules.strategies) + len(rules.instruments) + h


def records(dtype: np.dtype[Any], rows: int) -> Records:
    """Zeroed records with fields as attributes."""
    return np.zeros(rows, dtype).view(np.recarray)


@kernel
def rows_per_group(instruments, events):
    """Most rows of one output that one group of `events` can make. Per instrument an answer that is late, a
    cancel or an exit, an entry, and the alerts of each, and two of each of its holdings, at most 65; of 64
    strategies the trips and releases; a row and its alerts for each event; what the paper venue had kept
    back; the ends of two sessions.
    """
    return 150 * instruments + 4 * events + 1600


def new_output(instruments: int, rows: int) -> Output:
    """Buffers, not initialised, for `rows` events and one group of `instruments` more."""
    room = 4 * rows + 2 * rows_per_group(instruments, rows)
    orders, executions, decisions, equity, alerts = (
        np.empty(room, dtype_of(model)).view(np.recarray)
        for model in (Order, Execution, Decision, Equity, Alert)
    )
    return Output(orders, executions, decisions, equity, alerts, np.zeros(5, np.int64))
