"""One scenario through account, venue and journal, and its journal through the account again.

`play` is compiled: it moves time from event to event. At each, the venue trades its bars; what it has to say
by then, what the feed shows, what operators and strangers send becomes rows of the journal, one group; the
account applies the group; the statements are asked; what the account sends reaches the venue. Answers that
are quick make a group of their own. The journal is kept, and `replay` applies it again: at once, in cuts, and
with crashes.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray

from flows.simulation.foreign import write_foreign
from flows.simulation.scenario import NEVER, Scenario, timeline_of
from flows.simulation.shadow import NONE, Shadow, Statement, new_shadow
from flows.simulation.statements import begin_event, end_event, see_bar
from operators import paper_venue
from operators.account import apply_events
from operators.account_machine import TABLES
from operators.account_rules import account_rules, initial_state
from operators.account_state import EVENT, REPORT, Output, Rules, State, new_output, records
from operators.compiled import kernel, routine
from schemas.codes import EventKind, Verdict
from schemas.records import MICRO

MOST_STRATEGIES = 3
WAITING = 64  # slices on their way, at once
DONE, FOUND, FULL = range(3)
LATE_SLICES, MAIN, ANSWERS = range(3)


class Journal(NamedTuple):
    """Room for the rows, and how many are used: `counts` of rows and of reports. `waiting` (n, 3): event at
    which a slice is due, minute, instrument; `counts[2]` of them.
    """

    events: Any
    values: NDArray[np.int64]
    verdicts: NDArray[np.uint8]
    reports: Any
    waiting: NDArray[np.int64]
    counts: NDArray[np.int64]


# --- the rows of one group


@routine
def write_slice(journal, market, m, i):
    """The bar of minute `m` of instrument `i`."""
    row = journal.counts[0]
    event = journal.events[row]
    event.kind = EventKind.SLICE
    event.time_ns = market.time_ns[m]
    event.instrument = i
    event.detail = 0
    event.open = market.open[m, i]
    event.close = market.close[m, i]
    event.high = max(event.open, event.close)
    event.low = min(event.open, event.close)
    event.volume = market.volume[m, i]
    for s in range(market.values.shape[2]):
        journal.values[row, s] = market.values[m, i, s]
        journal.verdicts[row, s] = market.verdicts[m, i, s]
    journal.counts[0] += 1


@kernel
def write_row(journal, kind, time_ns, detail):
    """A row that is not a slice."""
    row = journal.counts[0]
    event = journal.events[row]
    event.kind = kind
    event.time_ns = time_ns
    event.instrument = NONE
    event.detail = detail
    event.open = 0
    event.high = 0
    event.low = 0
    event.close = 0
    event.volume = 0
    for s in range(journal.values.shape[1]):
        journal.values[row, s] = 0
        journal.verdicts[row, s] = Verdict.ABSENT
    journal.counts[0] += 1


@kernel
def write_report(journal, time_ns):
    """The report that stands behind those used."""
    write_row(journal, EventKind.EXECUTION, time_ns, journal.counts[1])
    journal.counts[1] += 1


@kernel
def wait(journal, due, m, i):
    """A slice comes later."""
    k = journal.counts[2]
    if k < len(journal.waiting):
        journal.waiting[k, 0] = due
        journal.waiting[k, 1] = m
        journal.waiting[k, 2] = i
        journal.counts[2] += 1


@routine
def write_late(journal, market, k):
    """Slices that are late and due at event `k`, of one bar end: a group. Rows of one time that follow each
    other are one group, so those of the last row's time wait.
    """
    last_ns = journal.events[journal.counts[0] - 1].time_ns if journal.counts[0] > 0 else NONE
    time_ns = NONE
    kept = 0
    for w in range(journal.counts[2]):
        due, m, i = journal.waiting[w, 0], journal.waiting[w, 1], journal.waiting[w, 2]
        if due <= k and market.time_ns[m] != last_ns and (time_ns == NONE or market.time_ns[m] == time_ns):
            time_ns = market.time_ns[m]
            write_slice(journal, market, m, i)
        else:
            journal.waiting[kept, 0] = due
            journal.waiting[kept, 1] = m
            journal.waiting[kept, 2] = i
            kept += 1
    journal.counts[2] = kept


@routine
def write_main(journal, timeline, market, k, rules, venue, terms, shadow):
    """The venue trades, and all that is known at event `k` becomes a group."""
    now = timeline.time_ns[k]
    m = timeline.bar[k]
    salt = timeline.salt[k]
    participation = terms.terms[0].participation
    if m >= 0:
        for i in range(market.open.shape[1]):
            lots = market.volume[m, i] * participation // MICRO if market.traded[m, i] == 1 else 0
            see_bar(shadow, rules, i, now, lots)
            if market.traded[m, i] == 1:
                paper_venue.trade(venue, terms, i, now, market.open[m, i], market.volume[m, i])
    for part in range(3):
        kind = (part + salt) % 3
        if kind == 0:
            if m >= 0:
                write_slices(journal, market, k, m)
        elif kind == 1:
            while paper_venue.next_report(venue, terms, now, journal.reports[journal.counts[1]]):
                write_report(journal, now)
            for f in range(timeline.first_foreign[k], timeline.last_foreign[k]):
                if write_foreign(
                    journal.reports[journal.counts[1]], shadow, timeline.foreign[f], salt + f, now
                ):
                    write_report(journal, now)
        else:
            for c in range(timeline.first_command[k], timeline.last_command[k]):
                write_row(journal, EventKind.CONTROL, now, c)
    if timeline.tick[k] == 1:
        write_row(journal, EventKind.TICK, now, 0)


@kernel
def write_slices(journal, market, k, m):
    """The bars of a minute that the feed shows at once; the others wait, or never come."""
    for i in range(market.open.shape[1]):
        delay = market.delay[m, i]
        if delay == 0:
            write_slice(journal, market, m, i)
        elif delay < NEVER:
            wait(journal, k + delay, m, i)
        if delay < NEVER and market.again[m, i] > 0:
            wait(journal, k + delay + market.again[m, i], m, i)


# --- the way through the events


def play(
    apply, timeline, market, commands, latency_ns, journal, state, rules, out, venue, terms, inbox, shadow
):
    """Go through all events; `apply` is the account's `apply_events`. `DONE`; `FOUND`: a statement did not
    hold; `FULL`: a buffer is too small.
    """
    k = 0
    phase = LATE_SLICES
    session = 0
    sent = False
    now = 0
    while k < len(timeline.time_ns):
        first = journal.counts[0]
        if len(journal.events) - first < 64 or len(journal.reports) - journal.counts[1] < 1024:
            return FULL
        if phase == LATE_SLICES:
            now = timeline.time_ns[k]
            write_late(journal, market, k)
            if journal.counts[0] == first:
                phase = MAIN
                continue
        elif phase == MAIN:
            if session < len(rules.session_close_ns) and now > rules.session_close_ns[session]:
                paper_venue.end_session(venue, terms, rules.session_close_ns[session])
                session += 1
            write_main(journal, timeline, market, k, rules, venue, terms, shadow)
            phase = ANSWERS
        else:
            now += latency_ns
            if sent and latency_ns > 0 and k + 1 < len(timeline.time_ns) and now < timeline.time_ns[k + 1]:
                while paper_venue.next_report(venue, terms, now, journal.reports[journal.counts[1]]):
                    write_report(journal, now)
            if journal.counts[0] == first:
                k += 1
                phase = LATE_SLICES
                sent = False
                continue
        if journal.counts[0] == first:
            continue
        begin_event(shadow, rules, out, journal.events[first].time_ns)
        events = journal.events[: journal.counts[0]]
        row = apply(
            events,
            journal.values,
            journal.verdicts,
            journal.reports,
            commands,
            first,
            state,
            rules,
            out,
            venue,
            terms,
            inbox,
        )
        if row != journal.counts[0] or shadow.book[0].orders + 64 > len(shadow.orders):
            return FULL
        if shadow.book[0].ids + 1024 > len(shadow.executions):
            return FULL
        end_event(shadow, state, rules, out, journal.events, journal.reports, commands, first, row)
        if shadow.finding[0].statement != NONE:
            return FOUND
        sent = False
        for o in range(shadow.first[0], out.counts[0]):
            paper_venue.receive(venue, terms, out.orders[o], now)
            sent = True
    return DONE


# --- around it


_COMPILED: list[Any] = []


def play_compiled(*args: Any) -> int:
    """`play`, compiled on first use. It calls the account by its address: that is large, compiled already,
    and would be compiled once more if it became part of `play`.
    """
    if vars(numba.config)["DISABLE_JIT"]:
        return int(play(apply_events, *args))
    if not _COMPILED:
        _, _, commands, _, journal, *others, _ = args
        rows = (journal.events, journal.values, journal.verdicts, journal.reports, commands, 0)
        account = types.FunctionType(types.int64(*map(numba.typeof, (*rows, *others))))
        signature = types.int64(account, *map(numba.typeof, args))
        options: Any = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
        compile_: Any = numba.njit(signature, **options)
        _COMPILED.append(compile_(play))
    return int(_COMPILED[0](apply_events, *args))


@dataclass(frozen=True)
class Finding:
    """A statement that did not hold: when, where, and the two numbers that were compared."""

    statement: Statement
    event: int
    time_ns: int
    instrument: int
    observed: int
    limit: int
    note: str = ""


@dataclass
class Played:
    """One scenario, gone through: to its end, or to the first statement that did not hold."""

    scenario: Scenario
    rules: Rules
    finding: Finding | None
    state: State
    venue: Any
    out: Output
    journal: Journal
    shadow: Shadow

    @property
    def rows(self) -> int:
        return int(self.journal.counts[0])

    def outputs(self) -> list[NDArray[Any]]:
        """Rows of orders, executions, decisions, equity and alerts."""
        return [self.out[k][: self.out.counts[k]].view(np.ndarray) for k in range(TABLES)]


class Buffers:
    """Memory that one scenario after the other uses."""

    def __init__(self, rows: int = 1 << 14):
        self.rows = rows
        self.events = np.empty(rows, EVENT).view(np.recarray)
        self.values = np.empty(rows * MOST_STRATEGIES, np.int64)
        self.verdicts = np.empty(rows * MOST_STRATEGIES, np.uint8)
        self.reports = records(REPORT, rows)
        self.out = new_output(6, 2 * rows)

    def journal(self, strategies: int) -> Journal:
        used = self.rows * strategies
        return Journal(
            self.events,
            self.values[:used].reshape(self.rows, strategies),
            self.verdicts[:used].reshape(self.rows, strategies),
            self.reports,
            np.zeros((WAITING, 3), np.int64),
            np.zeros(3, np.int64),
        )


class Simulator:
    """Plays scenarios, one at a time; what `play` returns is valid until the next."""

    def __init__(self) -> None:
        self.buffers = Buffers()

    def play(self, scenario: Scenario) -> Played:
        """Go through a scenario."""
        while True:
            played, full = self._play(scenario)
            if not full:
                break
            self.buffers = Buffers(2 * self.buffers.rows)
        return played

    def _play(self, scenario: Scenario) -> tuple[Played, bool]:
        config = scenario.config
        rules = account_rules(config, scenario.sessions, paper=False)
        state, venue = initial_state(config, rules), paper_venue.new_venue(config)
        journal, out = self.buffers.journal(len(config.strategies)), self.buffers.out
        rows = self.buffers.rows
        shadow = new_shadow(config, rules, rows, rows)
        out.counts[:] = 0
        code = play_compiled(
            timeline_of(scenario),
            scenario.market,
            scenario.commands,
            scenario.latency_ns,
            journal,
            state,
            rules,
            out,
            venue,
            paper_venue.venue_rules(config),
            records(REPORT, 1),
            shadow,
        )
        row = shadow.finding[0]
        finding = None
        if code == FOUND:
            numbers: list[Any] = [int(row[name]) for name in row.dtype.names[1:]]
            finding = Finding(Statement(row.statement), *numbers)
        return Played(scenario, rules, finding, state, venue, out, journal, shadow), code == FULL
