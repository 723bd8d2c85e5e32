"""Orders by the thousand against a venue that does everything wrong at once: in the end the ledger and the
venue's own books are the same.

Four instruments of no family, a strategy on each that changes its mind on every bar. At the end the venue is
made good, so that what was lost can be asked for, and the last sessions bring no signals.

Most mixes of faults settle by themselves. With all faults at once an operator is part of the system: a lost
bust of an order that is forgotten shows in the statement at the close and nowhere else.
"""

from decimal import Decimal
from typing import Any

import numba
import numpy as np
import pytest
from base_config import base_with
from numpy.typing import NDArray

from operators.account_machine import Account
from operators.account_rules import account_rules
from operators.account_state import COMMAND, EVENT, REPORT
from operators.paper_venue import FILLS, venue_rules
from operators.reports import CASH_TOLERANCE
from schemas.batches import JournalBatch
from schemas.codes import AlertKind, ControlAction, EventKind, ExecutionKind, HaltLevel, Verdict
from schemas.commands import BREAKERS
from schemas.config import MINUTE_NS, Config, parse_config
from schemas.records import MAX_INT, MICRO, Alert, dtype_of
from schemas.sessions import Sessions

COMPILED = not numba.config.DISABLE_JIT
ORDERS = 100_000 if COMPILED else 1_500
LENGTH = 390 if COMPILED else 60
WATCH = 30  # minutes from one look of the operator to the next
MOST_SESSIONS = 2_000
SETTLING = 3
SYMBOLS = ("A", "B", "C", "D")
N = len(SYMBOLS)
NONE = -1
CASH = NONE  # in the place of an instrument
FIRST = 1_700_000_040_000_000_000
DAY = 1440 * MINUTE_NS

Table = NDArray[Any]
Rows = tuple[Table, NDArray[np.int64], NDArray[np.uint8]]
NO_REPORTS, NO_COMMANDS = np.zeros(0, REPORT), np.zeros(0, COMMAND)


def configuration(instruments_to_kill: int, **faults: Any) -> Config:
    strategies = [
        {
            "name": f"on-{symbol}",
            "kind": "alternate",
            "parameters": {},
            "signals": [symbol],
            "capital_share": Decimal("0.25"),
            "filter": {"cooldown": 0, "noise_factor": 0, "noise_window": 10, "min_score": 0},
        }
        for symbol in SYMBOLS
    ]
    return parse_config(
        base_with(
            instruments=list(SYMBOLS),
            families=[],
            strategies=strategies,
            account__cash=900_000_000,
            gates__size__max_position_value=10_000,
            gates__frequency__openings_per_window=16,
            gates__frequency__openings_per_day=100_000,
            breakers__exit_failure__instruments_to_kill=instruments_to_kill,
            venue=base_with()["venue"] | ({"faults": {"seed": 7} | faults} if faults else {}),
        )
    )


def day(rng: np.random.Generator, session: int, *, signals: bool) -> Rows:
    """A session of slices of all instruments at each minute."""
    events = np.zeros(LENGTH * N, EVENT)
    events["kind"] = EventKind.SLICE
    events["time_ns"] = np.repeat(FIRST + session * DAY + MINUTE_NS * np.arange(1, LENGTH + 1), N)
    events["instrument"] = np.tile(np.arange(N), LENGTH)
    prices = 100 * MICRO + rng.integers(-MICRO, MICRO, (2, LENGTH * N))
    events["open"], events["close"] = prices
    events["low"], events["high"] = prices.min(0), prices.max(0)
    events["volume"] = rng.integers(0, 10_000, LENGTH * N)
    values = np.zeros((LENGTH * N, N), np.int64)
    verdicts = np.full((LENGTH * N, N), Verdict.ABSENT, np.uint8)
    own = np.arange(LENGTH * N), events["instrument"]
    on = np.repeat(np.arange(LENGTH) % 2, N) == 0
    values[own] = np.where(on & signals, MICRO, 0)
    verdicts[own] = np.where(on & signals, Verdict.PASSED, Verdict.NEUTRAL)
    return events, values, verdicts


class Desk:
    """An account and its venue, by their journal, and what they have said since the session began."""

    def __init__(self, faults: dict[str, Decimal], instruments_to_kill: int):
        config = configuration(instruments_to_kill, **faults)
        opens = FIRST + DAY * np.arange(MOST_SESSIONS, dtype=np.int64)
        sessions = Sessions("TEST", opens, opens + LENGTH * MINUTE_NS)
        self.account = Account(config, account_rules(config, sessions, paper=True))
        self.rng = np.random.default_rng(11)
        self.offset, self.session, self.told = 0, 0, 0
        self.commands, self.settled = 0, 0  # what the operator did: commands, executions put in
        self.begin()

    def begin(self) -> None:
        self.alerts = np.zeros(0, dtype_of(Alert))
        self.booked: set[int] = set()  # ids of executions by the account
        self.done = np.zeros(0, REPORT)  # executions by the venue
        self.known = int(self.account.venue.book[0].execution_id)  # the next of them

    def step(self, rows: Rows, reports: Table = NO_REPORTS, commands: Table = NO_COMMANDS) -> None:
        for batch in self.account.step(JournalBatch(self.offset, *rows, reports, commands, False)):
            self.alerts = np.concatenate([self.alerts, batch.alerts])
            self.told += len(batch.alerts)
            moved = np.isin(batch.executions["kind"], [ExecutionKind.FILL, ExecutionKind.BUST])
            self.booked.update(batch.executions["execution_id"][moved].tolist())
        self.offset += len(rows[0])
        self._look()

    def _look(self) -> None:
        """What the venue has done since the last look, from its memory, which must not have gone round."""
        new = int(self.account.venue.book[0].execution_id)
        assert new - self.known < FILLS
        fills = self.account.venue.fills[np.arange(self.known, new) % FILLS][list(REPORT.names or ())]
        self.done = np.concatenate([self.done, fills.astype(REPORT)])
        self.known = new

    def say(self, kind: EventKind, time_ns: int, rows: Table) -> None:
        """Rows of one time: a venue's reports, or commands."""
        if len(rows) == 0:
            return
        events = np.zeros(len(rows), EVENT)
        events["kind"], events["time_ns"], events["instrument"] = kind, time_ns, -1
        events["detail"] = np.arange(len(rows))
        nothing = np.zeros((len(rows), N), np.int64), np.full((len(rows), N), Verdict.ABSENT, np.uint8)
        if kind == EventKind.CONTROL:
            self.step((events, *nothing), commands=rows)
        else:
            self.step((events, *nothing), reports=rows)

    def trade(self, *, signals: bool, attended: bool) -> None:
        """A session. `attended`: an operator looks at it every half hour, and at what the venue states."""
        self.begin()
        rows = day(self.rng, self.session, signals=signals)
        for start in range(0, LENGTH, WATCH):
            now = FIRST + self.session * DAY + start * MINUTE_NS + MINUTE_NS // 2
            if attended:
                self.say(EventKind.CONTROL, now, self.orders())
            part = slice(start * N, (start + WATCH) * N)
            self.step((rows[0][part], rows[1][part], rows[2][part]))
        self.session += 1
        assert self.session < MOST_SESSIONS - SETTLING, "the orders are never reached"
        if attended:
            self.settle(now + DAY // 2)

    # --- the operator

    def orders(self) -> Table:
        """Commands of an operator who lets go on whatever has stopped."""
        status = self.account.figures()["state"]
        asked: list[dict[str, int]] = []
        if status["level"] != "active" or status["flatten"]:
            asked.append({"action": ControlAction.RESUME})
        for row in status["breakers"]:
            instrument = SYMBOLS.index(row["instrument"]) if row["instrument"] else NONE
            asked.append({"breaker": BREAKERS[row["breaker"]], "instrument": instrument})
        for symbol, reason in status["blocked"].items():
            if reason == "blocked":
                asked.append({"instrument": SYMBOLS.index(symbol)})
        rows = np.zeros(len(asked), COMMAND)
        rows["action"], rows["keys"], rows["expires_ns"] = ControlAction.RELEASE, 2, MAX_INT
        rows["command_id"] = self.commands + np.arange(1, len(rows) + 1)
        for name in ("breaker", "strategy", "instrument", "limit"):
            rows[name] = NONE
        for row, fields in zip(rows, asked, strict=True):
            for name, value in fields.items():
                row[name] = value
        self.commands += len(rows)
        return rows

    def settle(self, time_ns: int) -> None:
        """After the close. All that differs was told, and nothing else; and where something differs, those of
        the venue's executions of the day that never came are put into the journal, as the venue's.
        """
        assert self.told_differences() == self.differences()
        if self.differences():
            missing = ~np.isin(self.done["execution_id"], list(self.booked))
            self.say(EventKind.EXECUTION, time_ns, self.done[missing])
            self.settled += int(missing.sum())
        assert self.differences() == {}

    def differences(self) -> dict[int, tuple[int, int]]:
        """By instrument, or cash: what the venue's own books say, and the ledger."""
        state, venue = self.account.state, self.account.venue
        theirs, ours = int(venue.book[0].cash), int(state.account[0].cash)
        found = {CASH: (theirs, ours)} if abs(theirs - ours) > CASH_TOLERANCE else {}
        for i in range(N):
            theirs, ours = int(venue.holdings[i].quantity), int(state.positions[i].quantity)
            if theirs != ours:
                found[i] = theirs, ours
        return found

    def told_differences(self) -> dict[int, tuple[int, int]]:
        rows = self.alerts[self.alerts["kind"] == AlertKind.RECONCILIATION]
        return {int(a["instrument"]): (int(a["observed"]), int(a["limit"])) for a in rows}


EVERYTHING = {
    name: Decimal(share)
    for name, share in {
        "reject": "0.05",
        "partial": "0.2",
        "delay": "0.2",
        "lose": "0.05",
        "duplicate": "0.2",
        "fill_after_cancel": "0.1",
        "unknown": "0.03",
        "vanish": "0.02",
        "bust": "0.02",
    }.items()
}


def all_but(*names: str) -> dict[str, Decimal]:
    return {name: share for name, share in EVERYTHING.items() if name not in names}


MIXES = {
    "nothing lost": all_but("lose"),
    "nothing done that was denied": all_but("fill_after_cancel", "bust"),
    **{name: {name: Decimal("0.3")} for name in EVERYTHING},
}


def chaos(faults: dict[str, Decimal], orders: int, *, attended: bool) -> Desk:
    """The desk when all is settled. Two exits that fail at once kill the account where somebody attends."""
    instruments_to_kill = 2 if attended else 1000
    desk = Desk(faults, instruments_to_kill)
    while desk.account.state.account[0].orders < orders:
        desk.trade(signals=True, attended=attended)
    desk.account.terms = venue_rules(configuration(instruments_to_kill))  # good from now on
    for _ in range(SETTLING):
        desk.trade(signals=False, attended=attended)
    return desk


def check(desk: Desk, orders: int) -> None:
    """The ledger is the venue's books, all is sold, and nothing was dropped on the way."""
    state, venue = desk.account.state, desk.account.venue
    assert state.positions.quantity.tolist() == venue.holdings.quantity.tolist() == [0] * N
    assert int(state.account[0].cash) == int(venue.book[0].cash)
    ledger = state.account[0]
    assert int(ledger.cash) - int(ledger.realised) + int(ledger.fees) == 900_000_000 * MICRO
    assert int(ledger.fills) > orders // 4
    assert int(venue.book[0].overflow) == int(ledger.overflow) == 0


@pytest.mark.parametrize("name", MIXES)
def test_the_ledger_is_the_venues_books(name: str) -> None:
    faults = MIXES[name]
    orders = ORDERS if name == "nothing lost" else ORDERS // 20
    desk = chaos(faults, orders, attended=False)
    check(desk, orders)
    assert desk.told > 0 or set(faults) <= {"partial", "duplicate", "delay"}


def test_with_an_operator_the_ledger_is_the_venues_books_under_all_faults_at_once() -> None:
    desk = chaos(EVERYTHING, ORDERS, attended=True)
    check(desk, ORDERS)
    account = desk.account.state.account[0]
    assert (account.level, desk.account.state.positions.blocked.tolist()) == (HaltLevel.ACTIVE, [0] * N)
    assert desk.commands > 0
    assert desk.settled > 0, "nothing was lost for good: nothing was tested"
