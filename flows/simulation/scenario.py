"""Arbitrary sessions from a seed, as plain data.

In: a number. Out: a configuration, sessions, bars with what the account's feed shows of them, signals, ticks,
commands, reports from nowhere, and where the process crashes. The same number gives the same scenario.
"""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from operators.account_rules import account_rules
from operators.account_state import COMMAND, LIMITS, Rules, records
from schemas.codes import Breaker, ControlAction, ControlRefusal, Verdict
from schemas.config import MINUTE_NS, NS, Config, Faults, parse_config
from schemas.records import MICRO
from schemas.sessions import Sessions

T = TypeVar("T")
Int64s = NDArray[np.int64]

FIRST_OPEN = 1_699_972_200 * NS  # a Tuesday at half past two
DAY_NS = 1440 * MINUTE_NS
NEVER = 2**31  # the feed does not show this bar
LETTERS = "ABCDEF"
FAULTS = tuple(name for name in Faults.model_fields if name not in ("seed", "delay_seconds"))
NONE = -1


class Foreign(IntEnum):
    """Reports that the venue of the simulation did not make: what other venues, gateways and people do."""

    # of an earlier fill
    ALTERED = 0  # its id with another price
    REPEATED = 1
    OVERFILL = 2  # again with an id of its own: more than was ordered
    WRONG_SIDE = 3
    LATE_BUST = 4
    # of the last order of an instrument
    STRANGE = 5  # states that the venue of the simulation does not have
    TOLD_MORE = 6  # a cumulative beyond what has filled
    # of no order
    EXTERNAL = 7  # a fill
    NO_LOTS = 8
    NO_INSTRUMENT = 9
    FEE = 10
    POSITION = 11  # a statement that is right by the journal
    WRONG_POSITION = 12
    WRONG_CASH = 13


class Market(NamedTuple):
    """Bars by minute and instrument, (m, i) int64: prices in millionths, volume in lots.

    `time_ns` (m,): when the minute ends. `traded`: 1 where the venue has a bar. `delay`: how many events
    after its end the account's feed shows it, `NEVER` for not at all; `again`: how many events after that it
    comes once more, 0 for never. Signals of the strategies that read it, (m, i, s): values int64, verdicts
    uint8.
    """

    time_ns: Int64s
    open: Int64s
    close: Int64s
    volume: Int64s
    traded: Int64s
    delay: Int64s
    again: Int64s
    values: Int64s
    verdicts: NDArray[np.uint8]


@dataclass(frozen=True)
class Scenario:
    """`cuts`: where the process crashes, in thousandths of the journal. `latency_ns`: how long the venue's
    answer to a request is on its way; 0: it comes with the next event.
    """

    seed: int
    config: Config
    sessions: Sessions
    market: Market
    ticks_ns: Int64s
    command_ns: Int64s
    commands: Any
    foreign_ns: Int64s
    foreign: Int64s
    cuts: tuple[int, ...]
    latency_ns: int


class Draw:
    """Random choices that read like what they choose."""

    def __init__(self, seed: int):
        self.generator = Generator(PCG64(seed))
        self._block: list[float] = []

    def _next(self) -> float:
        if not self._block:
            self._block = self.generator.random(256).tolist()
        return self._block.pop()

    def chance(self, probability: float) -> bool:
        return self._next() < probability

    def whole(self, low: int, high: int) -> int:
        """From `low` to `high`, both included."""
        return low + int(self._next() * (high - low + 1))

    def pick(self, *choices: T) -> T:
        return choices[int(self._next() * len(choices))]

    def share(self, low: float, high: float) -> Decimal:
        """With six places, at least a millionth."""
        value = low + self._next() * (high - low)
        return Decimal(max(int(value * MICRO), 1)).scaleb(-6)

    def any(self, count: int, probability: float) -> list[int]:
        """Places that were chosen out of `count`."""
        return [k for k in range(count) if self.chance(probability)]


def make_scenario(seed: int) -> Scenario:
    """The scenario of a seed. Three in ten are calm: every bar is there and has volume, and the venue has no
    faults, so that nothing excuses the account. Prices, signals and operators are as wild as ever.
    """
    draw = Draw(seed)
    calm = draw.chance(0.3)
    config = parse_config(_config(draw, calm), f"scenario {seed}")
    sessions = _sessions(draw)
    rules = account_rules(config, sessions, paper=False)
    market = _market(draw, config, rules, sessions, calm)
    command_ns, commands = _commands(draw, config, sessions)
    foreign = 0 if calm or draw.chance(0.7) else draw.whole(1, 6)
    foreign_ns = _some_times(draw, sessions, foreign)
    return Scenario(
        seed=seed,
        config=config,
        sessions=sessions,
        market=market,
        ticks_ns=_ticks(draw, sessions),
        command_ns=command_ns,
        commands=commands,
        foreign_ns=foreign_ns,
        foreign=np.array([draw.whole(0, len(Foreign) - 1) for _ in foreign_ns], np.int64),
        cuts=tuple(sorted(draw.whole(0, 1000) for _ in range(draw.whole(1, 4)))),
        latency_ns=draw.pick(0, NS // 1000, NS // 5, 2 * NS),
    )


# --- configuration


def _config(draw: Draw, calm: bool) -> dict[str, Any]:
    instruments = list(LETTERS[: draw.pick(1, 2, 2, 3, 3, 4, 4, 5, 6)])
    families = _families(draw, instruments)
    return {
        "instruments": instruments,
        "account": {"id": "sim", "currency": "USD", "cash": draw.pick(1_000, 10_000, 100_000, 1_000_000)},
        "calendar": {"exchange": "24/7", "first": dt.date(2023, 1, 1), "last": dt.date(2024, 12, 31)},
        "bars": {
            "interval_seconds": 60,
            "jump_limit": Decimal("0.2"),
            "max_gap_bars": 60,
            "max_price": 1_000_000,
            "max_volume": 10**12,
            "other_symbols": "refuse",
        },
        "families": families,
        "strategies": _strategies(draw, instruments, bool(families)),
        "allocation": {"min_weight_change": draw.share(0.01, 0.5)},
        "gates": _gates(draw),
        "breakers": _breakers(draw),
        "orders": {
            "entry_lifetime_bars": draw.whole(1, 5),
            "exit_collar": draw.pick(Decimal("0.02"), draw.share(0.0001, 0.2)),
            "retry_seconds": draw.pick(0, 5, 30),
            "answer_seconds": draw.pick(5, 30, 60),
            "query_seconds": draw.pick(5, 10, 30),
            "absence_answers": draw.whole(1, 4),
            "absence_seconds": draw.pick(0, 30, 60, 120),
        },
        "venue": {
            "half_spread": draw.pick(Decimal(0), draw.share(0, 0.002)),
            "slippage": draw.pick(Decimal(0), draw.share(0, 0.002)),
            "commission_per_unit": draw.pick(Decimal(0), Decimal("0.005"), draw.share(0, 0.1)),
            "commission_share": draw.pick(Decimal(0), draw.share(0, 0.005)),
            "participation": draw.pick(1, 1, Decimal("0.1"), draw.share(0.01, 1)),
            "faults": None if calm else _faults(draw),
        },
    }


def _families(draw: Draw, instruments: list[str]) -> list[dict[str, Any]]:
    if len(instruments) < 2 or draw.chance(0.25):
        return []
    members = instruments[: draw.whole(2, min(len(instruments), 4))]
    bulls = draw.whole(1, min(2, len(members) - 1))

    def tiers(symbols: list[str]) -> list[dict[str, Any]]:
        return [
            {
                "probability": Decimal(60 + 15 * k).scaleb(-2),
                "instrument": symbol,
                "weight": draw.pick(1, draw.share(0.1, 1)),
            }
            for k, symbol in enumerate(symbols)
        ]

    return [
        {
            "name": "family",
            "hysteresis": draw.pick(Decimal(0), Decimal("0.05")),
            "bull": tiers(members[:bulls]),
            "bear": tiers(members[bulls : bulls + 2]),
        }
    ]


def _strategies(draw: Draw, instruments: list[str], family: bool) -> list[dict[str, Any]]:
    rows = []
    left = MICRO
    for k in range(draw.pick(1, 1, 2, 3)):
        if left < 1_000:
            break
        share = left if draw.chance(0.4) else draw.whole(left // 10, left)
        left -= share
        row: dict[str, Any] = {
            "name": f"s{k}",
            "kind": "none",
            "parameters": {},
            "capital_share": Decimal(share).scaleb(-6),
            "filter": {"cooldown": 0, "noise_factor": 0, "noise_window": 10, "min_score": 0},
        }
        if family and draw.chance(0.7):
            row |= {"signals": [draw.pick(*instruments)], "family": "family"}
        else:
            row |= {"signals": [instruments[i] for i in draw.any(len(instruments), 0.6)] or instruments[:1]}
        rows.append(row)
    return rows


def _gates(draw: Draw) -> dict[str, Any]:
    flat_by = draw.pick(0, 30, 60, 60)
    force = draw.whole(2, 3)
    reprice = draw.whole(force, force + 2)
    exits = draw.whole(max(reprice, 4), 8)
    cancel = draw.whole(exits, exits + 5)
    narrow = draw.chance(0.2)
    return {
        "session": {
            "entries_stop_minutes": draw.whole(cancel, cancel + 10),
            "cancel_entries_minutes": cancel,
            "exits_begin_minutes": exits,
            "reprice_minutes": reprice,
            "force_minutes": force,
            "flat_by_seconds": flat_by,
        },
        "freshness": {"max_age_seconds": draw.pick(90, 90, 1, 600)},
        "conflict": {"two_of_one_side": draw.pick("allow", "refuse")},
        "frequency": {
            "openings_per_window": draw.whole(1, 4) if narrow else 16,
            "window_minutes": draw.pick(1, 10, 60),
            "openings_per_day": draw.whole(1, 10) if narrow else 1000,
            "release": draw.pick("operator", "next_session"),
        },
        "size": {
            "max_position_value": draw.pick(900_000_000, draw.whole(200, 50_000)),
            "max_position_share": draw.pick(1, draw.share(0.05, 1)),
            "max_positions": draw.pick(10, 1, 2),
            "max_volume_share": draw.pick(1, Decimal("0.05"), draw.share(0.001, 1)),
            "min_order_value": draw.pick(1, 100),
        },
        "cash": {
            "buffer_share": draw.pick(Decimal(0), Decimal("0.05"), draw.share(0, 0.5)),
            "collar": draw.pick(Decimal("0.02"), draw.share(0.00001, 0.2)),
        },
        "messages": {
            "burst": draw.pick(1000, 1000, draw.whole(1, 20)),
            "per_minute": draw.pick(1000, draw.whole(1, 20)),
            "reserved_share": draw.pick(Decimal(0), Decimal("0.5")),
        },
    }


def _breakers(draw: Draw) -> dict[str, Any]:
    def loss() -> Decimal | int:
        return draw.share(0.0001, 0.02) if draw.chance(0.15) else 1

    drawdown = loss()
    return {
        "daily_loss": {"share": loss(), "release": draw.pick("operator", "next_session")},
        "rapid_loss": {
            "share": loss(),
            "window_minutes": draw.pick(1, 15),
            "pause_minutes": draw.pick(1, 10, 30),
        },
        "drawdown": {
            "share": drawdown,
            "factor": draw.pick(Decimal("0.5"), Decimal(0)),
            "release_share": drawdown
            if draw.chance(0.3)
            else min(draw.share(0.00001, 0.0001), Decimal(drawdown)),
        },
        "consecutive_losses": {
            "count": draw.whole(1, 4) if draw.chance(0.2) else 1_000_000,
            "pause_minutes": draw.pick(5, 30, 240),
        },
        "strategy_loss": {"share": loss(), "pause_minutes": draw.pick(5, 30, 1440)},
        "exit_failure": {
            "attempts": draw.whole(1, 4),
            "no_progress_seconds": draw.pick(60, 120, 600),
            "instruments_to_kill": draw.pick(1000, 1000, 1, 2),
        },
        "unusual_trading": {"slow_at": draw.pick(1, 2), "stop_at": draw.pick(2, 4)},
    }


def _faults(draw: Draw) -> dict[str, Any] | None:
    if draw.chance(0.2):
        return None
    most = draw.pick(0.02, 0.2, 0.6)
    shares = {kind: draw.share(0, most) for kind in FAULTS if draw.chance(0.4)}
    return {"seed": draw.whole(0, 2**31), "delay_seconds": draw.pick(1, 20, 90, 900), **shares}


# --- sessions, bars and what the feed shows of them


def _sessions(draw: Draw) -> Sessions:
    lengths = [
        draw.pick(20, 45, 60, 75, 90, 90, 120, 120, 150, 180, 210 if draw.chance(0.5) else 390)
        for _ in range(draw.pick(1, 1, 1, 2, 3))
    ]
    opens = FIRST_OPEN + DAY_NS * np.arange(len(lengths), dtype=np.int64)
    return Sessions("SIM", opens, opens + MINUTE_NS * np.array(lengths, np.int64))


def _market(draw: Draw, config: Config, rules: Rules, sessions: Sessions, calm: bool) -> Market:
    lengths = ((sessions.close_ns - sessions.open_ns) // MINUTE_NS).tolist()
    time_ns = np.concatenate(
        [
            opened + MINUTE_NS * np.arange(1, length + 1)
            for opened, length in zip(sessions.open_ns, lengths, strict=True)
        ]
    )
    minutes, instruments = len(time_ns), len(config.instruments)
    shape = (minutes, instruments)
    random = draw.generator
    start = np.array([draw.pick(1.5, 20.0, 100.0, 450.0) for _ in range(instruments)])
    wild = draw.pick(0.0, 1e-4, 1e-3, 1e-3, 1e-2)
    steps = random.standard_normal(shape) * wild
    if draw.chance(0.3):
        jumps = random.random(shape) < 0.01
        steps += jumps * random.uniform(-0.25, 0.25, shape)
    close = np.maximum(start * np.exp(np.clip(np.cumsum(steps, axis=0), -4.0, 3.0)), 0.01)
    before = np.concatenate([start[None, :], close[:-1]])
    gaps = random.standard_normal(shape) * draw.pick(0.0, wild, 3 * wild)
    opened = np.maximum(before * np.exp(np.clip(gaps, -0.3, 0.3)), 0.01)
    typical = np.array([draw.pick(20, 1_000, 100_000, 1_000_000) for _ in range(instruments)])
    volume = (typical * random.uniform(0.2, 2.0, shape)).astype(np.int64)
    traded = np.ones(shape, np.int64)
    delay = np.zeros(shape, np.int64)
    if not calm:
        volume[random.random(shape) < draw.pick(0.0, 0.0, 0.05, 0.5)] = 0
        traded[random.random(shape) < draw.pick(0.0, 0.0, 0.0, 0.02, 0.3)] = 0
        for i, first, last in _spans(draw, lengths, instruments, 0.3):
            traded[first:last, i] = 0
        late = random.random(shape) < draw.pick(0.0, 0.0, 0.05, 0.3)
        delay = np.where(late, random.integers(1, 8, shape), 0)
    for i, first, last in _spans(draw, lengths, instruments, 0.4):
        delay[first:last, i] = NEVER
    delay[traded == 0] = NEVER
    again = np.where(random.random(shape) < draw.pick(0.0, 0.0, 0.03), random.integers(1, 8, shape), 0)
    values, verdicts = _signals(draw, rules, minutes, instruments, len(config.strategies))
    return Market(
        time_ns,
        (opened * MICRO).astype(np.int64),
        (close * MICRO).astype(np.int64),
        volume,
        traded,
        delay,
        again,
        values,
        verdicts,
    )


def _spans(
    draw: Draw, lengths: list[int], instruments: int, probability: float
) -> list[tuple[Any, int, int]]:
    """(instrument or all of them, first minute, last minute): often to the close."""
    spans: list[tuple[Any, int, int]] = []
    start = 0
    for length in lengths:
        if draw.chance(probability):
            first = draw.whole(0, length - 1)
            last = length if draw.chance(0.5) else draw.whole(first, length)
            if last == length and draw.chance(0.5):
                first = max(length - draw.whole(3, 8), 0)
            which = slice(None) if draw.chance(0.4) else draw.whole(0, instruments - 1)
            spans.append((which, start + first, start + last))
        start += length
    return spans


def _signals(
    draw: Draw, rules: Rules, minutes: int, instruments: int, strategies: int
) -> tuple[Int64s, NDArray[np.uint8]]:
    values = np.zeros((minutes, instruments, strategies), np.int64)
    verdicts = np.full(values.shape, Verdict.ABSENT, np.uint8)
    for sleeve in rules.sleeves:
        value = _signal(draw, minutes)
        told = np.where(value == 0, Verdict.NEUTRAL, Verdict.PASSED).astype(np.uint8)
        if draw.chance(0.3):
            other = draw.generator.random(minutes) < 0.2
            told[other] = draw.pick(
                Verdict.REFUSED_NOISE,
                Verdict.REFUSED_COOLDOWN,
                Verdict.INVALID,
                Verdict.PENDING,
                Verdict.ABSENT,
            )
            value = np.where(other, 0, value)
        values[:, sleeve.signal, sleeve.strategy] = value
        verdicts[:, sleeve.signal, sleeve.strategy] = told
    return values, verdicts


def _signal(draw: Draw, minutes: int) -> Int64s:
    """Millionths by minute."""
    random = draw.generator
    size = draw.pick(300_000, 600_000, MICRO)
    place = np.arange(minutes)
    kind = draw.whole(0, 6)
    if kind == 0:
        return np.full(minutes, draw.pick(size, -size, 0))
    if kind == 1:  # in and out, every bar
        return np.where(place % 2 == 0, size, 0)
    if kind == 2:  # from one side to the other
        return np.where(place // draw.whole(1, 15) % 2 == 0, size, -size)
    if kind == 3:  # up and down the tiers
        return np.array([0, 300_000, 600_000, 300_000, -300_000, -600_000])[place // draw.whole(1, 10) % 6]
    if kind == 4:
        return np.where(
            random.random(minutes) < draw.pick(0.01, 0.1, 0.5), random.integers(-MICRO, MICRO + 1, minutes), 0
        )
    if kind == 5:
        return np.clip(np.cumsum(random.integers(-200_000, 200_001, minutes)), -MICRO, MICRO)
    return np.sign(random.standard_normal(minutes)).astype(np.int64) * size


# --- clock, operators and strangers


def _ticks(draw: Draw, sessions: Sessions) -> Int64s:
    if draw.chance(0.05):
        return np.zeros(0, np.int64)
    every = draw.pick(5, 10, 15, 20, 30, 30, 60, 60) * NS
    shift = draw.pick(0, 0, NS)
    spans = []
    for opened, closed in zip(sessions.open_ns, sessions.close_ns, strict=True):
        after = draw.pick(0, 60, 300) * NS
        times = np.arange(opened + shift, closed + after + 1, every)
        spans.append(times[draw.generator.random(len(times)) >= draw.pick(0.0, 0.0, 0.3)])
    spans.append(sessions.close_ns[-1:] + NS * np.array([301, 900, 3600]))
    return np.concatenate(spans)


def _some_times(draw: Draw, sessions: Sessions, count: int) -> Int64s:
    """Rising times, most of them in sessions."""
    times = []
    for _ in range(count):
        s = draw.whole(0, len(sessions) - 1)
        opened, closed = int(sessions.open_ns[s]), int(sessions.close_ns[s])
        left = draw.whole(0, (closed - opened) // NS + 60) * NS
        times.append(opened + left if draw.chance(0.7) else closed - min(left, 600 * NS))
    return np.array(sorted(times), np.int64)


CHANGEABLE = ("max_position_value", "max_position_share", "max_positions", "openings_per_day", "daily_loss")


def _commands(draw: Draw, config: Config, sessions: Sessions) -> tuple[Int64s, Any]:
    times = _some_times(draw, sessions, draw.pick(0, 0, 0, 0, 1, 2, 4))
    rows: Any = records(COMMAND, len(times))
    for k, time_ns in enumerate(times.tolist()):
        row = rows[k]
        row.action = draw.whole(0, len(ControlAction) - 1)
        row.command_id = time_ns if draw.chance(0.85) else draw.pick(1, time_ns - 600 * NS)
        row.expires_ns = time_ns + draw.pick(0, 60 * NS, 3600 * NS, -NS if draw.chance(0.3) else NS)
        row.keys = draw.pick(1, 2, 2)
        row.breaker = row.strategy = row.instrument = row.limit = NONE
        if row.action == ControlAction.RELEASE:
            _release(draw, config, row)
        elif row.action in (ControlAction.LOWER_LIMIT, ControlAction.RAISE_LIMIT):
            assert LIMITS.names is not None
            name = draw.pick(*CHANGEABLE)
            row.limit = LIMITS.names.index(name)
            row.value = _limit(draw, name)
        if draw.chance(0.15):
            row.refusal = draw.pick(
                ControlRefusal.MALFORMED, ControlRefusal.FORGED, ControlRefusal.NOT_APPLICABLE
            )
    return times, rows


def _release(draw: Draw, config: Config, row: Any) -> None:
    """Of a breaker with what it counts by, or of what blocks an instrument."""
    strategy, instrument = (
        draw.whole(0, len(config.strategies) - 1),
        draw.whole(0, len(config.instruments) - 1),
    )
    if draw.chance(0.4):
        row.instrument = instrument
        return
    row.breaker = draw.whole(0, len(Breaker) - 1)
    if row.breaker in (Breaker.CONSECUTIVE_LOSSES, Breaker.STRATEGY_LOSS, Breaker.UNUSUAL_TRADING):
        row.strategy = strategy
    elif row.breaker == Breaker.EXIT_FAILURE:
        row.instrument = instrument
    elif row.breaker == Breaker.REPEATED_EXECUTION:
        row.strategy, row.instrument = strategy, instrument


def _limit(draw: Draw, name: str) -> int:
    if name == "max_position_value":
        return draw.pick(1_000, 100_000) * MICRO
    if name in ("max_positions", "openings_per_day"):
        return draw.pick(1, 5, 50)
    return draw.pick(1_000, 100_000, MICRO)


# --- what a kernel reads


class Timeline(NamedTuple):
    """The scenario by event, (n,) int64: what happens at each time. `bar`: the minute that ends, -1 none;
    `tick`: 1 for a tick of the clock; commands and foreign reports from first to last; `salt`: a number for
    choices.
    """

    time_ns: Int64s
    bar: Int64s
    tick: Int64s
    first_command: Int64s
    last_command: Int64s
    first_foreign: Int64s
    last_foreign: Int64s
    foreign: Int64s
    salt: Int64s


def timeline_of(scenario: Scenario) -> Timeline:
    """The events of a scenario in order of time."""
    parts = (scenario.market.time_ns, scenario.ticks_ns, scenario.command_ns, scenario.foreign_ns)
    times = np.unique(np.concatenate(parts))
    bar = np.full(len(times), NONE, np.int64)
    bar[np.searchsorted(times, scenario.market.time_ns)] = np.arange(len(scenario.market.time_ns))
    tick = np.zeros(len(times), np.int64)
    tick[np.searchsorted(times, scenario.ticks_ns)] = 1
    return Timeline(
        times,
        bar,
        tick,
        np.searchsorted(scenario.command_ns, times, side="left"),
        np.searchsorted(scenario.command_ns, times, side="right"),
        np.searchsorted(scenario.foreign_ns, times, side="left"),
        np.searchsorted(scenario.foreign_ns, times, side="right"),
        scenario.foreign,
        _salt(times, scenario.seed),
    )


def _salt(times: Int64s, seed: int) -> Int64s:
    """A number for each time that depends on it and the seed alone, so that what is taken away elsewhere
    changes none.
    """
    mixed = times.astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed >> np.uint64(2)).astype(np.int64)
