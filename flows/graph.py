"""The one graph, read from top to bottom in the order of the data.

Live and replay build it from the same two stages; they differ in where bars come from, where the journal is
and where outputs go.
"""

import hashlib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.operators import KeyedStream
from bytewax.outputs import Sink

from connectors.calendars import load_sessions
from flows.auditor import check_canaries
from flows.wire import bar_rows, letters_out, names_of, outputs_out, reports_out, slices_out
from operators.account_machine import Account
from operators.account_rules import account_rules
from operators.account_state import COMMAND, EVENT, REPORT, Rules
from operators.align import Align
from operators.journal import Journal
from operators.market import Indicators, Quality, SignalFilter, Strategies, journal_slices
from operators.market_plan import MarketPlan, market_plan
from operators.quality import QualityLimits
from operators.shell import Machine, stateful
from operators.venue_machine import PaperVenue
from schemas.batches import (
    AccountBatch,
    BarBatch,
    DeadLetters,
    JournalBatch,
    JournalRows,
    MarketBatch,
    SliceBatch,
    Ticks,
    VenueInput,
)
from schemas.codes import EventKind
from schemas.config import Config, ConfigError
from schemas.records import Order, dtype_of
from schemas.sessions import Sessions


class Sinks(NamedTuple):
    """Where a live graph writes. `outputs` None: the account stage is elsewhere, and a second writer for its
    outputs would shut it out.
    """

    journal: Sink[Any]
    outputs: Sink[Any] | None
    dead_letters: Sink[Any]


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
    journal: KeyedStream[Any], setup: Setup, align: Callable[[], Machine[Any, JournalBatch]]
) -> KeyedStream[AccountBatch]:
    """One owner of all account state. Key: account. `align` puts the journal into the order of event time."""
    parameters = setup.identity
    aligned = stateful(align().name, journal, align, parameters)
    return stateful("account", aligned, lambda: Account(setup.config, setup.rules), parameters)


def replay_graph(source: Source[Any], sink: Sink[Any], setup: Setup, results_key: str) -> Dataflow:
    """Recorded bars in, results out; the journal is an edge and the venue is inside the account stage."""
    flow = Dataflow("replay")
    recorded = op.input("recording", flow, source)
    split = op.branch("bars_or_ticks", recorded, lambda item: isinstance(item[1], BarBatch))

    slices, dead = market_stage(split.trues, setup)
    journal: KeyedStream[Any] = op.merge("journal", slices, split.falses)
    config = setup.config
    align = partial(Align, len(config.instruments), len(config.strategies))
    outputs = account_stage(journal, setup, align)

    results = op.merge("results", outputs, dead)
    keyed = op.map("results_key", results, lambda item: (results_key, item[1]))
    op.output("out", keyed, sink)
    return flow


def live_graph(
    source: Source[Any], sinks: Sinks, setup: Setup, grace_ns: int, watch: Callable[[AccountBatch], None]
) -> Dataflow:
    """Topics in, topics out. The journal leaves as a topic and comes back as one, so it has one order for
    good; which of the two stages is busy depends on the topics that the source reads. `watch` sees what the
    account stage does, for metrics.
    """
    config = setup.config
    names = names_of(config)
    flow = Dataflow("live")
    read = op.input("kafka", flow, source)
    bars = op.branch("bars", read, lambda item: isinstance(item[1], BarBatch))
    rows = op.branch("journal_rows", bars.falses, lambda item: isinstance(item[1], JournalRows))
    refused = op.branch("refused", rows.falses, lambda item: isinstance(item[1], DeadLetters))

    slices, dead = market_stage(bars.trues, setup)
    said = op.map("slices_out", slices, lambda item: slices_out(item[1], config))
    timed = op.map("clock_out", refused.falses, lambda item: item[1])
    op.output("journal_out", op.merge("to_journal", said, timed), sinks.journal)

    if sinks.outputs is not None:
        align = partial(Journal, len(config.instruments), len(config.strategies), grace_ns)
        outputs = account_stage(rows.trues, setup, align)
        op.inspect("watch", outputs, lambda _, item: watch(item[1]))
        decided = op.map("decided", outputs, lambda item: (item[0], outputs_out(item[1], names)))
        op.output("orders_out", decided, sinks.outputs)

    letters = op.merge("dead", dead, refused.trues)
    kept = op.map("letters", letters, lambda item: letters_out(item[1]))
    op.output("dead_letters_out", kept, sinks.dead_letters)
    return flow


def paper_graph(source: Source[Any], sink: Sink[Any], setup: Setup, grace_ns: int) -> Dataflow:
    """The paper venue beside a live account: journal and orders in, reports for the journal out."""
    names = names_of(setup.config)
    flow = Dataflow("paper")
    read = op.input("kafka", flow, source)
    venue = partial(PaperVenue, setup.config, setup.sessions, grace_ns)
    told = stateful("paper_venue", read, venue, setup.identity)
    reports = op.map("reports_out", told, lambda item: (item[0], reports_out(item[1], names)))
    op.output("journal_out", reports, sink)
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
    bar_rows([], [], config)
    check_canaries()


def compile_venue(setup: Setup) -> None:
    """The same for the paper venue: a venue of its own sees one request, one bar and one close."""
    config, opened_ns = setup.config, int(setup.sessions.open_ns[0])
    venue = PaperVenue(config, setup.sessions, grace_ns=0)
    events, orders = np.zeros(3, EVENT), np.zeros(1, dtype_of(Order))
    events["kind"] = EventKind.TICK
    events["kind"][0] = EventKind.SLICE
    events["time_ns"] = opened_ns + 1, opened_ns + 2, int(setup.sessions.close_ns[0]) + 1
    orders["time_ns"] = opened_ns
    values = np.zeros((3, len(config.strategies)), np.int64)
    nothing = np.zeros(0, REPORT), np.zeros(0, COMMAND)
    rows = JournalRows(np.arange(3), events, values, values.astype(np.uint8), *nothing)
    venue.step(VenueInput(rows, orders))
