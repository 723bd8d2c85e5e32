"""The one graph, read from top to bottom in the order of the data.

Live and replay build it from the same two functions; they differ in where bars come from and where outputs
go.
"""

import hashlib
import importlib
import inspect
from dataclasses import dataclass

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.operators import KeyedStream
from bytewax.outputs import Sink

from connectors.calendars import load_sessions
from flows.auditor import check_canaries
from operators.account_machine import Account
from operators.account_rules import account_rules
from operators.account_state import Rules
from operators.align import Align
from operators.market import Indicators, Quality, SignalFilter, Strategies, journal_slices
from operators.market_plan import MarketPlan, market_plan
from operators.quality import QualityLimits
from operators.shell import stateful
from schemas.batches import AccountBatch, BarBatch, DeadLetters, MarketBatch, SliceBatch, Ticks
from schemas.config import Config, ConfigError
from schemas.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Setup:
    """A configuration, checked against what exists and worked out into what the steps need."""

    config: Config
    sessions: Sessions
    plan: MarketPlan
    limits: QualityLimits
    rules: Rules
    identity: str
    """Hash of everything that configures the graph: the configuration and the sources of its modules."""

    @classmethod
    def of(cls, config: Config, *, paper: bool) -> "Setup":
        """`paper`: the paper venue runs inside the account stage. Raises `ConfigError`."""
        sources = [import_strategies(name) for name in config.modules]
        identity = hashlib.sha256("\n".join([config.hash, *sources]).encode()).hexdigest()
        calendar = config.calendar
        try:
            sessions = load_sessions(calendar.exchange, calendar.first, calendar.last)
        except ValueError as error:
            raise ConfigError(f"calendar: {error}") from None
        bars = config.bars
        limits = QualityLimits(
            config.interval_ns,
            float(bars.jump_limit),
            bars.max_gap_bars,
            float(bars.max_price),
            float(bars.max_volume),
        )
        rules = account_rules(config, sessions, paper=paper)
        return cls(config, sessions, market_plan(config), limits, rules, identity)


def import_strategies(name: str) -> str:
    """Import a module of the configuration, which registers its strategies; returns its source."""
    try:
        return inspect.getsource(importlib.import_module(name))
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"modules: {name!r} cannot be imported: {error}; run from the folder that holds it, or install it"
        ) from error


def market_stage(
    bars: KeyedStream[BarBatch], setup: Setup
) -> tuple[KeyedStream[SliceBatch], KeyedStream[DeadLetters]]:
    """Everything that needs one symbol alone. Key: symbol."""
    config, plan, parameters = setup.config, setup.plan, setup.identity
    index = {symbol: i for i, symbol in enumerate(config.instruments)}

    judged = stateful("quality", bars, lambda: Quality(setup.limits, setup.sessions, plan), parameters)
    split = op.branch("good_bars", judged, lambda item: isinstance(item[1], MarketBatch))
    good: KeyedStream[MarketBatch] = split.trues  # type: ignore[assignment]
    dead: KeyedStream[DeadLetters] = split.falses  # type: ignore[assignment]

    featured = stateful("indicators", good, lambda: Indicators(plan), parameters)
    signalled = stateful("strategies", featured, lambda: Strategies(plan), parameters)
    filtered = stateful("signal_filter", signalled, lambda: SignalFilter(plan), parameters)
    slices = op.map(
        "journal_slices", filtered, lambda item: (config.account.id, journal_slices(item[1], index[item[0]]))
    )
    return slices, dead


def account_stage(
    slices: KeyedStream[SliceBatch], ticks: KeyedStream[Ticks], setup: Setup
) -> KeyedStream[AccountBatch]:
    """One owner of all account state. Key: account."""
    config, parameters = setup.config, setup.identity
    lanes: KeyedStream[SliceBatch | Ticks] = op.merge("journal", slices, ticks)
    aligned = stateful(
        "align", lanes, lambda: Align(len(config.instruments), len(config.strategies)), parameters
    )
    return stateful("account", aligned, lambda: Account(config, setup.rules), parameters)


def replay_graph(source: Source, sink: Sink, setup: Setup, results_key: str) -> Dataflow:  # type: ignore[type-arg]
    """Recorded bars in, results out; the journal is an edge and the venue is inside the account stage."""
    flow = Dataflow("replay")
    recorded = op.input("recording", flow, source)
    split = op.branch("bars_or_ticks", recorded, lambda item: isinstance(item[1], BarBatch))

    slices, dead = market_stage(split.trues, setup)
    outputs = account_stage(slices, split.falses, setup)

    results = op.merge("results", outputs, dead)
    keyed = op.map("results_key", results, lambda item: (results_key, item[1]))
    op.output("out", keyed, sink)
    return flow


def compile_kernels(setup: Setup) -> None:
    """Send nothing through every machine, so that kernels compile, or load, before the first bar."""
    config, plan = setup.config, setup.plan
    none, nothing = np.zeros(0, np.int64), np.zeros((5, 0))
    align = Align(len(config.instruments), len(config.strategies))
    account = Account(config, setup.rules)
    lanes: list[SliceBatch | Ticks] = [Ticks(none, 0, final=True)]
    for index, symbol in enumerate(config.instruments):
        batch = BarBatch(symbol, none, none, nothing, np.zeros(0, np.uint8), 0)
        for item in Quality(setup.limits, setup.sessions, plan).step(batch):
            if isinstance(item, MarketBatch):
                for machine in (Indicators(plan), Strategies(plan), SignalFilter(plan)):
                    machine.step(item)
                item.final = True
                lanes.append(journal_slices(item, index))
    for lane in lanes:
        for journal in align.step(lane):
            account.step(journal)
    check_canaries()
