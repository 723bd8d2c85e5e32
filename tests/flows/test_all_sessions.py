"""Every session of 2020 to 2026: flat a minute before its close, whatever the feed and the venue do.

The venue stands beside the account and trades bars of its own; its reports come by the journal. The account
gets the last half hour of each session as bars, a tick every ten seconds from eight minutes before the close,
and a strategy that always wants to be long.
"""

from datetime import UTC, date, datetime
from typing import Any

import numba
import numpy as np
import pytest
from base_config import base_with

from connectors.calendars import load_sessions
from operators import paper_venue
from operators.account import apply_events
from operators.account_rules import account_rules, initial_state
from operators.account_state import COMMAND, EVENT, REPORT, new_output, records
from operators.order_lifecycle import is_live
from schemas.codes import EventKind, ExecutionKind, Intent, OrderKind, Verdict
from schemas.config import MINUTE_NS, NS, parse_config
from schemas.records import MICRO

SESSIONS = load_sessions("XNYS", date(2020, 1, 1), date(2026, 12, 31))
STEP = 40 if numba.config.DISABLE_JIT else 1  # without the compiler a sample of them
PRICE = 100 * MICRO
CONFIG = parse_config(
    base_with(
        instruments=["SPY"],
        families=[],
        strategies=[
            {
                "name": "long",
                "kind": "constant",
                "parameters": {"weight": 1},
                "signals": ["SPY"],
                "capital_share": 1,
                "filter": {"cooldown": 0, "noise_factor": 0, "noise_window": 10, "min_score": 0},
            }
        ],
        gates__session__entries_stop_minutes=12,
    )
)


class Desk:
    """One account and its venue. `rejects`: so many exits of each session are rejected."""

    def __init__(self, rejects: int) -> None:
        self.rules = account_rules(CONFIG, SESSIONS, paper=False)
        self.state = initial_state(CONFIG, self.rules)
        self.venue, self.terms = paper_venue.new_venue(CONFIG), paper_venue.venue_rules(CONFIG)
        self.inbox, self.out = records(REPORT, 1), new_output(1, 4)
        self.event, self.commands = records(EVENT, 1), records(COMMAND, 1)
        self.rejects, self.left = rejects, rejects
        self.rejected = 0

    def apply(self, kind: EventKind, time_ns: int, value: int = 0) -> None:
        self.event[0] = (kind, time_ns, 0, 0, PRICE, PRICE, PRICE, PRICE, 1_000_000)
        self.out.counts[:] = 0
        verdict = Verdict.PASSED if kind == EventKind.SLICE else Verdict.ABSENT
        apply_events(
            self.event,
            np.array([[value]]),
            np.array([[verdict]], np.uint8),
            self.inbox,
            self.commands,
            0,
            self.state,
            self.rules,
            self.out,
            self.venue,
            self.terms,
            self.inbox,
        )
        for order in self.out.orders[: self.out.counts[0]].copy():
            if order.kind == OrderKind.NEW and order.intent == Intent.EXIT and self.left > 0:
                self.left -= 1
                self.rejected += 1
                self.reject(order, time_ns)
            else:
                paper_venue.receive(self.venue, self.terms, order, time_ns)
                self.hear(time_ns)

    def reject(self, order: Any, time_ns: int) -> None:
        report = self.inbox[0]
        for name in ("instrument", "order_ns", "intent", "attempt", "side"):
            report[name] = order[name]
        report.kind, report.time_ns, report.cumulative = ExecutionKind.REJECTED, time_ns, 0
        self.apply(EventKind.EXECUTION, time_ns)

    def hear(self, time_ns: int) -> None:
        while paper_venue.next_report(self.venue, self.terms, time_ns, self.inbox[0]):
            self.apply(EventKind.EXECUTION, time_ns)

    def bar(self, time_ns: int, *, fed: bool) -> None:
        paper_venue.trade(self.venue, self.terms, 0, time_ns, PRICE, 1_000_000)
        self.hear(time_ns)
        self.apply(EventKind.SLICE if fed else EventKind.TICK, time_ns, MICRO)

    @property
    def flat(self) -> bool:
        return bool(self.state.positions[0].quantity == 0 and not is_live(self.state.orders[0]))


def play(*, dead_minutes: int = 0, rejects: int = 0) -> Desk:
    """All sessions; the feed is dead from `dead_minutes` before each close."""
    desk = Desk(rejects)
    for close_ns in SESSIONS.close_ns[::STEP].tolist():
        desk.left = rejects
        held = False
        for left in range(29, 0, -1):
            now = close_ns - left * MINUTE_NS
            desk.bar(now, fed=left > dead_minutes)
            held |= not desk.flat
            if left == 1:
                assert desk.flat, datetime.fromtimestamp(close_ns / NS, UTC)
            elif left <= 8:
                for seconds in range(10, 60, 10):
                    desk.apply(EventKind.TICK, now + seconds * NS)
        assert held
        desk.apply(EventKind.TICK, close_ns)
        paper_venue.end_session(desk.venue, desk.terms, close_ns)
        desk.hear(close_ns + NS)
    account = desk.state.account[0]
    assert int(account.sessions) == len(SESSIONS.close_ns[::STEP])
    assert (int(account.sessions_not_flat), int(account.sessions_flat_late)) == (0, 0)
    assert account.breaches.tolist() == account.denied.tolist() == [0] * 6
    return desk


def test_the_calendar_holds_half_days_and_both_offsets_from_utc() -> None:
    closes = {datetime.fromtimestamp(ns / NS, UTC).hour for ns in SESSIONS.close_ns}
    assert closes == {17, 18, 20, 21}  # a half day in summer time and in winter time, a full day in both
    assert len(SESSIONS.close_ns) > 1700


def test_flat_before_every_close() -> None:
    assert play().state.account[0].fills > 0


@pytest.mark.parametrize("minutes", [5, 6])
def test_flat_before_every_close_with_a_dead_feed(minutes: int) -> None:
    assert play(dead_minutes=minutes).state.account[0].fills > 0


def test_flat_before_every_close_when_the_first_three_exits_are_rejected() -> None:
    desk = play(rejects=3)
    assert desk.rejected == 3 * len(SESSIONS.close_ns[::STEP])
