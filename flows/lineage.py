"""Why there was an order at a bar, or why not: the deterministic stages run again up to one bar end.

In: the folder of a finished replay, its recording and its configuration. Out: what the market stage made of
every symbol at one bar end, and what one instrument saw of the account while that decided. Nothing of it was
stored: the same bars through the same machines give the same states.
"""

import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from connectors.config_file import load_config
from connectors.recording import BarRecording
from connectors.replay_source import Progress, ReplaySource
from connectors.results import SUMMARY
from flows.control_cli import load_commands
from flows.graph import Setup
from flows.interpreted import Watch, interpreted
from flows.process import RunError
from flows.replay import WINDOW_ROWS, WINDOW_ROWS_A_SYMBOL
from operators import account as account_stage
from operators import signal_filter
from operators.account_machine import Account
from operators.account_state import COMMAND, Rules, State, state_of
from operators.align import Align
from operators.gates import judge_entry
from operators.indicators.windows import quantile
from operators.market import Indicators, Quality, SignalFilter, Strategies, journal_slices
from operators.market_plan import StrategyTask
from schemas.batches import (
    AccountBatch,
    BarBatch,
    DeadLetters,
    Float64s,
    JournalBatch,
    MarketBatch,
    SliceBatch,
    Ticks,
)
from schemas.codes import GATES, Reason, Stage
from schemas.records import MICRO, Names

Show = Callable[[float, int], None]
"""Told of progress: days done, days to do."""


class LineageError(RunError):
    """A bar cannot be explained, for a reason that can be mended."""


# --- the result, and what it was made from


@dataclass(frozen=True, slots=True)
class Result:
    """A finished replay whose stages can run again."""

    out: Path
    setup: Setup
    bars: BarRecording
    commands: tuple[NDArray[np.int64], NDArray[Any]]

    @property
    def names(self) -> Names:
        config = self.setup.config
        return Names(config.account.id, config.instruments, tuple(s.name for s in config.strategies))


def open_result(out: Path, recording: Path | None = None, config: Path | None = None) -> Result:
    """The result in `out`. `recording` and `config`: where they are now, if they have moved.

    Raises `LineageError`, also for a configuration or a recording that is not the one of the result, and the
    errors of configuration, recording and control folder.
    """
    made = _read_summary(out)
    config_path = _place(config, made["config"], out, "configuration", "--config")
    settings = load_config(config_path)
    if settings.hash != made["config_hash"]:
        raise LineageError(
            f"{config_path} is not the configuration of {out}: its hash is {settings.hash[:12]}, that of the "
            f"result {str(made['config_hash'])[:12]}; name the right file with --config, or replay again"
        )
    if recording is None and made["recording"] is None:
        raise LineageError(
            f"{out} was made from a topic, and explain reads a recording of bars: name one of the same bars "
            f"with --recording"
        )
    recording_path = _place(recording, made["recording"], out, "recording", "--recording")
    first, last = (date.fromisoformat(made[key]) if made[key] else None for key in ("first", "last"))
    bars = BarRecording(recording_path, settings.instruments, first, last)
    known = made.get("recording_hash")
    if known is not None and known != bars.identity:
        raise LineageError(
            f"{recording_path} does not hold the bars of {out}: its hash is {bars.identity[:12]}, that of "
            f"the result {known[:12]}; name the right folder with --recording, or replay again"
        )
    commands = (np.zeros(0, np.int64), np.zeros(0, COMMAND))
    if made["control"]:
        commands = load_commands(Path(made["control"]), settings)
    return Result(out, Setup.of(settings, paper=True), bars, commands)


def _read_summary(out: Path) -> dict[str, Any]:
    path = out / SUMMARY
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LineageError(
            f"{out} holds no finished replay, there is no {SUMMARY}; name one that ran to its end"
        ) from None
    except (OSError, ValueError) as error:
        raise LineageError(f"{path}: cannot be read: {error}; replay again") from None
    needed = ("recording", "config", "config_hash", "first", "last", "control")
    if not isinstance(made, dict) or any(key not in made for key in needed):
        raise LineageError(f"{path} does not say what it was made from; replay again with this version")
    return made


def _place(given: Path | None, noted: str | None, out: Path, what: str, option: str) -> Path:
    """Where the recording or the configuration is: as given, else as noted by the result."""
    if given is None and noted is None:
        raise LineageError(f"{out} does not say where its {what} is; name it with {option}")
    path = given or Path(str(noted))
    if not path.exists():
        raise LineageError(f"{path}: the {what} of {out} is not there; where it is now, say with {option}")
    return path


# --- the bar in question


@dataclass(frozen=True, slots=True)
class Place:
    """A bar end on the session's grid, or a time at which no bar can be."""

    time_ns: int
    on_grid: bool
    asked_ns: int


def place_of(result: Result, symbol: str, asked_ns: int) -> Place:
    """The bar end that `asked_ns` means for `symbol`: a bar end itself, else the end of the bar that contains
    it. Raises `LineageError` for another symbol and a time that the result does not cover.
    """
    config, sessions = result.setup.config, result.setup.sessions
    days = [day for day in result.bars.days if config.calendar.first <= day <= config.calendar.last]
    if symbol not in config.instruments:
        raise LineageError(
            f"{symbol!r} is no instrument of this result; it has {', '.join(config.instruments)}"
        )
    day = np.datetime64(asked_ns - 1, "ns").astype("datetime64[D]").astype(date)
    if not days or not days[0] <= day <= days[-1]:
        covered = f"{days[0]} to {days[-1]}" if days else "no day of its calendar"
        raise LineageError(f"{day} (UTC) is not in this result; it covers {covered}")
    k = int(np.searchsorted(sessions.close_ns, asked_ns))
    if k == len(sessions) or asked_ns < sessions.open_ns[k]:
        return Place(asked_ns, False, asked_ns)
    step, open_ns = config.interval_ns, int(sessions.open_ns[k])
    end_ns = open_ns + max(-(-(asked_ns - open_ns) // step), 1) * step
    if end_ns > sessions.close_ns[k]:
        return Place(asked_ns, False, asked_ns)  # what is left of the session is shorter than a bar
    return Place(end_ns, True, asked_ns)


# --- the run up to it


@dataclass(slots=True)
class Market:
    """What the market stage made of one symbol at the bar end in question.

    `batch` has that bar, or none. `filters` are the states of the signal filter before it, one a strategy of
    the symbol's plan. `next_ns` is the end of the next good bar, 0 where that is not known.
    """

    batch: MarketBatch
    filters: list[Float64s]
    next_ns: int


@dataclass(slots=True)
class Moment:
    """The stages as they stand just before the group of one time, and that group, if there is one.

    `before` are the account's outputs within the bar, before its end.
    """

    market: dict[str, Market]
    account: Account
    group: JournalBatch | None
    before: list[AccountBatch]


class _Lane:
    """The market stage of one symbol."""

    def __init__(self, setup: Setup, symbol: str):
        self.index = setup.config.instruments.index(symbol)
        self.quality = Quality(setup.limits, setup.sessions, setup.plan)
        self.indicators = Indicators(setup.plan)
        self.strategies = Strategies(setup.plan)
        self.filter = SignalFilter(setup.plan)

    def judge(self, bars: BarBatch) -> MarketBatch:
        (good,) = (item for item in self.quality.step(bars) if not isinstance(item, DeadLetters))
        return good

    def slices(self, batch: MarketBatch) -> SliceBatch:
        for machine in (self.indicators, self.strategies, self.filter):
            machine.step(batch)
        return journal_slices(batch, self.index)

    def filters(self, symbol: str) -> list[Float64s]:
        return [vector.copy() for vector in self.filter.start(symbol)[1]]


class _Stages:
    """All stages: lanes of the market, and the account behind them."""

    def __init__(self, setup: Setup):
        config = setup.config
        self.lanes = {symbol: _Lane(setup, symbol) for symbol in config.instruments}
        self.align = Align(len(config.instruments), len(config.strategies))
        self.account = Account(config, setup.rules)

    def window(self, items: Iterable[tuple[str, BarBatch | Ticks]]) -> None:
        """All of a window."""
        for _, item in items:
            lane = item if isinstance(item, Ticks) else self._slices(item)
            for journal in self.align.step(lane):
                self.account.step(journal)

    def _slices(self, bars: BarBatch) -> SliceBatch:
        lane = self.lanes[bars.symbol]
        return lane.slices(lane.judge(bars))

    def until(self, items: Iterable[tuple[str, BarBatch | Ticks]], time_ns: int) -> Moment:
        """Of a window what comes before `time_ns`. What comes then is ready, and what comes later is left."""
        market: dict[str, Market] = {}
        now: list[SliceBatch | Ticks] = []
        before: list[AccountBatch] = []
        for _, item in items:
            early: SliceBatch | Ticks
            if isinstance(item, Ticks):
                early = replace(item, complete_ns=time_ns - 1, final=False)
                now.append(Ticks(np.zeros(0, np.int64), time_ns))
            else:
                lane = self.lanes[item.symbol]
                good = lane.judge(item)
                at, after = (int(np.searchsorted(good.end_ns, time_ns, side=side)) for side in SIDES)
                early = lane.slices(_part(good, 0, at, time_ns - 1))
                here, filters = _part(good, at, after, time_ns), lane.filters(item.symbol)
                next_ns = int(good.end_ns[after]) if after < len(good.end_ns) else 0
                market[item.symbol] = Market(here, filters, next_ns)
                now.append(lane.slices(here))
            for journal in self.align.step(early):
                before += self.account.step(journal)
        groups = [journal for lane_now in now for journal in self.align.step(lane_now)]
        return Moment(market, self.account, groups[0] if groups else None, before)


SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")


def run_until(result: Result, time_ns: int, show: Show) -> Moment:
    """Run all stages up to, and without, the group at `time_ns`."""
    setup = result.setup
    source = ReplaySource(
        result.bars,
        setup.sessions,
        setup.config.account.id,
        window_rows=max(WINDOW_ROWS, WINDOW_ROWS_A_SYMBOL * len(setup.config.instruments)),
        batch_bars=0,
        ignore_other_symbols=True,
        progress=Progress(Event()),
        commands=result.commands,
    )
    start_ns = time_ns - setup.config.interval_ns  # a recording files a bar under the day of its start
    last = max(sum(_midnight_ns(window[0]) <= start_ns for window in source.windows), 1) - 1
    days = sum(len(window) for window in source.windows[: last + 1])
    stages = _Stages(setup)
    reader = source.build_part("recording", "recording", None)
    try:
        for _ in range(last):
            stages.window(reader.next_batch())
            show(source.progress.days_done, days)
        return stages.until(reader.next_batch(), time_ns)
    finally:
        reader.close()


def _part(batch: MarketBatch, first: int, last: int, complete_ns: int) -> MarketBatch:
    """Some bars of a batch, complete up to a time."""
    taken = slice(first, last)
    return MarketBatch(
        batch.symbol,
        batch.end_ns[taken],
        np.ascontiguousarray(batch.prices[:, taken]),
        batch.session[taken],
        batch.minute[taken],
        complete_ns,
        False,
        features=np.ascontiguousarray(batch.features[:, taken]),
        signals=np.ascontiguousarray(batch.signals[:, taken]),
        passed=np.ascontiguousarray(batch.passed[:, taken]),
        verdict=np.ascontiguousarray(batch.verdict[:, taken]),
    )


def _midnight_ns(day: date) -> int:
    return int(np.datetime64(day, "ns").astype(np.int64))


# --- the signal filter


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the signal filter compares an entry with. `floor` in millionths of the full score; `wait`: bars of
    cool-down left; `held`: the score that passed on the bar before.
    """

    floor: float
    wait: int
    held: float


def filter_bounds(task: StrategyTask, state: Float64s) -> Bounds:
    """The bounds for the bar that comes next, from the state of the signal filter before it."""
    names = [parameter.name for parameter in signal_filter.PARAMETERS]
    given = dict(zip(names, task.filter_parameters.tolist(), strict=True))
    noise = quantile(state[signal_filter._HEAD :], signal_filter._NOISE_SHARE)
    return Bounds(
        max(given["min_score"] * MICRO, given["noise_factor"] * noise),
        max(int(state[signal_filter._WAIT]) - 1, 0),
        float(state[signal_filter._PASSED]),
    )


# --- the account, watched while it decides


@dataclass(frozen=True, slots=True)
class Judged:
    """One gate's verdict on an entry. `asked`: the account asked it; what comes after a refusal is not."""

    stage: Stage
    asked: bool
    wanted: int
    allowed: int
    reason: Reason
    observed: int
    limit: int


@dataclass(slots=True)
class Watched:
    """What was seen of one instrument while the account decided.

    `state`: as it stood when the decisions began, None outside sessions. `desired`: (target, stage, reason)
    that it went by, None where there was neither a position, an order nor a weight.
    """

    state: State | None = None
    desired: tuple[int, Stage, Reason] | None = None
    gates: list[Judged] = field(default_factory=list)


def watch_group(account: Account, group: JournalBatch, i: int) -> tuple[Watched, AccountBatch]:
    """Apply a group to `account` in the interpreter, and watch instrument `i`."""
    seen = Watched()

    def on_decisions(decide: Callable[..., Any]) -> Callable[..., Any]:
        def watched(state: State, rules: Rules, out: Any) -> Any:
            seen.state = seen.state or _copy(state, rules)
            return decide(state, rules, out)

        return watched

    def on_desired(desired: Callable[..., Any]) -> Callable[..., Any]:
        def watched(state: State, rules: Rules, k: int) -> Any:
            wanted, stage, reason = desired(state, rules, k)
            if k == i:
                seen.desired = int(wanted), Stage(stage), Reason(reason)
            return wanted, stage, reason

        return watched

    def on_entry(judge: Callable[..., Any]) -> Callable[..., Any]:
        def watched(state: State, rules: Rules, out: Any, k: int, quantity: int, price: int) -> Any:
            if k == i:
                seen.gates = list(_ask_gates(_copy(state, rules), rules, out, i, quantity, price))
            return judge(state, rules, out, k, quantity, price)

        return watched

    watches: dict[Any, Watch] = {
        account_stage.decide_exits: on_decisions,
        account_stage.decide_entries: on_decisions,
        account_stage.desired: on_desired,
        judge_entry: on_entry,
    }
    step = interpreted(Account.step, watches)
    (outputs,) = step(account, group)
    return seen, outputs


def _copy(state: State, rules: Rules) -> State:
    return state_of(state.words.copy(), rules)


def _ask_gates(state: State, rules: Rules, out: Any, i: int, quantity: int, price: int) -> Iterator[Judged]:
    """The verdict of every gate in order of authority, each on a copy of the state. As in `judge_entry` a
    gate gets what the one before it left; those behind a refusal get what the refusing one got.
    """
    asked = True
    for stage in GATES:
        judge = interpreted(import_module(f"operators.gates.{stage.name.lower()}").judge, {})
        given = {
            "state": _copy(state, rules),
            "rules": rules,
            "out": type(out)(*(table.copy() for table in out)),
            "i": i,
            "quantity": quantity,
            "price": price,
        }
        needed = inspect.signature(judge).parameters
        allowed, reason, observed, limit = judge(*(given[name] for name in needed))
        yield Judged(stage, asked, int(quantity), int(allowed), Reason(reason), int(observed), int(limit))
        asked = asked and bool(allowed > 0)
        quantity = allowed if asked else quantity
