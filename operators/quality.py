"""Judges every bar of a symbol before anything else sees it.

In: batches of one symbol's bars as they arrived, by symbol. Out: for each bar one `DeadLetter` reason or
NONE, and for an accepted bar its session and its minute, counted in bars since the session's open. State: one
record of fixed size a symbol: the last good bar and the quarantine.

The reason is the first that applies, in the order of the checks: the decoder's own; content (finite,
positive, not too large, high and low, volume); time (inside the calendar, one interval long, inside one
session, on the session's grid); order (duplicate, correction, older than the last good bar); and last the two
suspicions, a jump in time and a jump in price. A suspect bar is refused and remembered. When two in a row
were and a third agrees with them, the third is accepted: two bars are lost, none is held back. A bar that
agrees with the last good one clears the quarantine.

Always true: a refused bar never changes the last good bar; the same record a second time changes nothing;
where batches are cut changes nothing; the state does not depend on which dates the calendar covers.

Limits. The first bar of a symbol has no reference: if its content and time are possible, it is believed. A
wrong bar with a plausible price and a plausible time (no more than `max_gap_bars` bars missing) cannot be
told from a real one; when its time lies ahead, the real bars up to it are refused as out of order. Three
wrong bars in a row that agree with each other are believed.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from operators.compiled import kernel
from schemas.batches import CLOSE, HIGH, LOW, OPEN, VOLUME, BarBatch, Codes, Float64s, Int64s
from schemas.codes import DeadLetter
from schemas.sessions import Sessions

VERSION = 1
STATE = np.dtype(
    [
        ("version", np.int64),
        ("seen", np.int64),  # 1 once a bar was accepted
        ("end_ns", np.int64),  # the last good bar
        ("open", np.float64),
        ("high", np.float64),
        ("low", np.float64),
        ("close", np.float64),
        ("volume", np.float64),
        ("suspects", np.int64),  # quarantined bars in a row that agree with each other
        ("suspect_end_ns", np.int64),  # the latest of them
        ("suspect_close", np.float64),
    ]
)
"""One symbol's state; a snapshot is its bytes."""

QUARANTINE = 2  # suspect bars lost before a third is believed

_NONE = int(DeadLetter.NONE)
_NOT_FINITE = int(DeadLetter.NOT_FINITE)
_PRICE_NOT_POSITIVE = int(DeadLetter.PRICE_NOT_POSITIVE)
_PRICE_TOO_LARGE = int(DeadLetter.PRICE_TOO_LARGE)
_HIGH_BELOW_LOW = int(DeadLetter.HIGH_BELOW_LOW)
_OUTSIDE_RANGE = int(DeadLetter.OUTSIDE_RANGE)
_NEGATIVE_VOLUME = int(DeadLetter.NEGATIVE_VOLUME)
_VOLUME_TOO_LARGE = int(DeadLetter.VOLUME_TOO_LARGE)
_TIME_OUT_OF_RANGE = int(DeadLetter.TIME_OUT_OF_RANGE)
_WRONG_INTERVAL = int(DeadLetter.WRONG_INTERVAL)
_OUTSIDE_SESSION = int(DeadLetter.OUTSIDE_SESSION)
_OFF_GRID = int(DeadLetter.OFF_GRID)
_DUPLICATE = int(DeadLetter.DUPLICATE)
_CORRECTION = int(DeadLetter.CORRECTION)
_OUT_OF_ORDER = int(DeadLetter.OUT_OF_ORDER)
_PRICE_JUMP = int(DeadLetter.PRICE_JUMP)
_TIME_JUMP = int(DeadLetter.TIME_JUMP)


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """What a bar may be. Raises ValueError for a limit that could not refuse anything, NaN included.

    `jump_limit`: largest change against the last good close, as a fraction. `max_gap_bars`: bars that may be
    missing, in session time, before the next one is suspect. Prices in the account's currency, volume in
    units traded.
    """

    interval_ns: int
    jump_limit: float
    max_gap_bars: int
    max_price: float
    max_volume: float

    def __post_init__(self) -> None:
        if not 0 < self.interval_ns <= 86_400_000_000_000:
            raise ValueError(f"interval_ns: {self.interval_ns} is not allowed; from 1 ns to one day")
        if not 0 < self.jump_limit <= 1:
            raise ValueError(f"jump_limit: {self.jump_limit} is not allowed; above 0, at most 1")
        if not 0 <= self.max_gap_bars <= 100_000:
            raise ValueError(f"max_gap_bars: {self.max_gap_bars} is not allowed; from 0 to 100000")
        for name in ("max_price", "max_volume"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: {getattr(self, name)} is not allowed; above 0 and finite")


@kernel
def content_fault(
    open_: float, high: float, low: float, close: float, volume: float, max_price: float, max_volume: float
) -> int:
    """The first fault of a bar's five numbers, or NONE."""
    if (
        0.0 < low <= open_ <= high <= max_price
        and low <= close <= high
        and 0.0 <= volume <= max_volume  # NaN fails every comparison
    ):
        return _NONE
    if not (
        math.isfinite(open_)
        and math.isfinite(high)
        and math.isfinite(low)
        and math.isfinite(close)
        and math.isfinite(volume)
    ):
        return _NOT_FINITE
    if not (open_ > 0.0 and high > 0.0 and low > 0.0 and close > 0.0):
        return _PRICE_NOT_POSITIVE
    if not (open_ <= max_price and high <= max_price and low <= max_price and close <= max_price):
        return _PRICE_TOO_LARGE
    if high < low:
        return _HIGH_BELOW_LOW
    if not (low <= open_ <= high and low <= close <= high):
        return _OUTSIDE_RANGE
    if volume < 0.0:
        return _NEGATIVE_VOLUME
    return _VOLUME_TOO_LARGE


@kernel
def session_of(open_ns: Int64s, hint: int, start_ns: int) -> int:
    """Index of the last session that opens at or before `start_ns`, which must not lie before the first.

    `hint` is any valid index; the answer does not depend on it. Next to the hint no search is needed.
    """
    count = len(open_ns)
    if open_ns[hint] <= start_ns:
        if hint + 1 == count or start_ns < open_ns[hint + 1]:
            return hint
        if hint + 2 == count or start_ns < open_ns[hint + 2]:
            return hint + 1
    low = 0
    high = count
    while high - low > 1:
        middle = (low + high) // 2
        if open_ns[middle] <= start_ns:
            low = middle
        else:
            high = middle
    return low


@kernel
def gap_exceeds(
    open_ns: Int64s, close_ns: Int64s, session: int, from_ns: int, to_ns: int, limit_ns: int
) -> bool:
    """Whether more than `limit_ns` of session time lies from `from_ns` to `to_ns`, a time in `session`."""
    gap = 0
    until = to_ns
    while True:
        begin = max(open_ns[session], from_ns)
        if begin < until:
            gap += until - begin
            if gap > limit_ns:
                return True
        if from_ns >= open_ns[session] or session == 0:
            return False
        session -= 1
        until = close_ns[session]


@kernel
def judge_bars(
    start_ns: Int64s,
    end_ns: Int64s,
    prices: Float64s,
    preset: Codes,
    open_ns: Int64s,
    close_ns: Int64s,
    interval_ns: int,
    jump_limit: float,
    max_gap_bars: int,
    max_price: float,
    max_volume: float,
    state: NDArray[np.void],
    reasons: Codes,
    session: Int64s,
    minute: Int64s,
) -> None:
    """Fill `reasons` (n,) uint8, `session` and `minute` (n,) int64, -1 where refused; change `state` (1,) in
    place.
    """
    record = state[0]
    seen = record["seen"]
    last_end = record["end_ns"]
    last_open = record["open"]
    last_high = record["high"]
    last_low = record["low"]
    last_close = record["close"]
    last_volume = record["volume"]
    suspects = record["suspects"]
    suspect_end = record["suspect_end_ns"]
    suspect_close = record["suspect_close"]

    first_ns = open_ns[0]
    final_ns = close_ns[-1]
    max_gap_ns = max_gap_bars * interval_ns
    floor = 1.0 - jump_limit
    ceiling = 1.0 + jump_limit
    current = 0

    for i in range(len(end_ns)):
        session[i] = -1
        minute[i] = -1
        if preset[i] != _NONE:
            reasons[i] = preset[i]
            continue
        open_ = prices[OPEN, i]
        high = prices[HIGH, i]
        low = prices[LOW, i]
        close = prices[CLOSE, i]
        volume = prices[VOLUME, i]
        fault = content_fault(open_, high, low, close, volume, max_price, max_volume)
        if fault != _NONE:
            reasons[i] = fault
            continue

        # Both times are bounded before their difference is taken: it cannot wrap around.
        start = start_ns[i]
        end = end_ns[i]
        if not (first_ns <= start <= final_ns and first_ns <= end <= final_ns):
            reasons[i] = _TIME_OUT_OF_RANGE
            continue
        if end - start != interval_ns:
            reasons[i] = _WRONG_INTERVAL
            continue
        current = session_of(open_ns, current, start)
        if end > close_ns[current]:
            reasons[i] = _OUTSIDE_SESSION
            continue
        since_open = start - open_ns[current]
        bars = since_open // interval_ns
        if bars * interval_ns != since_open:
            reasons[i] = _OFF_GRID
            continue

        if seen != 0:
            if end == last_end:
                same = (
                    open_ == last_open
                    and high == last_high
                    and low == last_low
                    and close == last_close
                    and volume == last_volume
                )
                reasons[i] = _DUPLICATE if same else _CORRECTION
                continue
            if end < last_end:
                reasons[i] = _OUT_OF_ORDER
                continue
            suspicion = _NONE
            if start != last_end and gap_exceeds(open_ns, close_ns, current, last_end, start, max_gap_ns):
                suspicion = _TIME_JUMP
            elif not (last_close * floor <= low and high <= last_close * ceiling):
                suspicion = _PRICE_JUMP
            if suspicion != _NONE:
                if suspects > 0 and end == suspect_end and close == suspect_close:
                    reasons[i] = suspicion  # the same record again: the count must not change
                    continue
                agrees = (
                    suspects > 0
                    and end > suspect_end
                    and suspect_close * floor <= low
                    and high <= suspect_close * ceiling
                    and not gap_exceeds(open_ns, close_ns, current, suspect_end, start, max_gap_ns)
                )
                if not agrees:
                    suspects = 0
                if suspects < QUARANTINE:
                    suspects += 1
                    suspect_end = end
                    suspect_close = close
                    reasons[i] = suspicion
                    continue

        reasons[i] = _NONE
        session[i] = current
        minute[i] = bars
        seen = 1
        last_end = end
        last_open = open_
        last_high = high
        last_low = low
        last_close = close
        last_volume = volume
        suspects = 0
        suspect_end = 0
        suspect_close = 0.0

    record["seen"] = seen
    record["end_ns"] = last_end
    record["open"] = last_open
    record["high"] = last_high
    record["low"] = last_low
    record["close"] = last_close
    record["volume"] = last_volume
    record["suspects"] = suspects
    record["suspect_end_ns"] = suspect_end
    record["suspect_close"] = suspect_close


def initial_state() -> NDArray[np.void]:
    """State of a symbol of which nothing was seen: shape (1,), dtype `STATE`."""
    state = np.zeros(1, dtype=STATE)
    state["version"] = VERSION
    return state


def load_state(snapshot: bytes) -> NDArray[np.void]:
    """The state whose bytes `state.tobytes()` gave. Raises ValueError for bytes of another layout."""
    if len(snapshot) != STATE.itemsize:
        raise ValueError(f"quality state: {len(snapshot)} bytes, expected {STATE.itemsize}")
    state = np.frombuffer(snapshot, dtype=STATE).copy()
    if state["version"][0] != VERSION:
        raise ValueError(f"quality state: version {state['version'][0]}, expected {VERSION}")
    return state


def judge(
    batch: BarBatch, state: NDArray[np.void], limits: QualityLimits, sessions: Sessions
) -> tuple[Codes, Int64s, Int64s]:
    """Reasons (n,) uint8, session and minute (n,) int64 of a batch's bars; -1 where refused. Changes `state`.

    Raises ValueError when the calendar has no session: then no bar could ever be accepted.
    """
    if len(sessions) == 0:
        raise ValueError(f"the calendar of {sessions.exchange} has no session")
    n = len(batch)
    reasons = np.empty(n, dtype=np.uint8)
    session = np.empty(n, dtype=np.int64)
    minute = np.empty(n, dtype=np.int64)
    judge_bars(
        batch.start_ns,
        batch.end_ns,
        batch.prices,
        batch.reason,
        sessions.open_ns,
        sessions.close_ns,
        limits.interval_ns,
        limits.jump_limit,
        limits.max_gap_bars,
        limits.max_price,
        limits.max_volume,
        state,
        reasons,
        session,
        minute,
    )
    return reasons, session, minute


class SymbolJudge:
    """`judge` with the state of every symbol kept: one record a symbol seen. For use outside the graph."""

    def __init__(self, limits: QualityLimits, sessions: Sessions) -> None:
        self.limits = limits
        self.sessions = sessions
        self._states: dict[str, NDArray[np.void]] = {}

    def __call__(self, batch: BarBatch) -> tuple[Codes, Int64s, Int64s]:
        """Reasons, session and minute of the next bars of `batch.symbol`."""
        state = self._states.get(batch.symbol)
        if state is None:
            state = self._states[batch.symbol] = initial_state()
        return judge(batch, state, self.limits, self.sessions)
