"""Orders by the thousand against a venue that does everything wrong at once: in the end the ledger and the
venue's own books are the same.

Four instruments of no family, a strategy on each that changes its mind on every bar. At the end the venue is
made good, so that what was lost can be asked for, and the last sessions bring no signals.
"""

from decimal import Decimal
from typing import Any

import numba
import numpy as np
import pytest
from base_config import base_with

from operators.account_machine import Account
from operators.account_rules import account_rules
from operators.account_state import COMMAND, EVENT, REPORT
from operators.paper_venue import venue_rules
from schemas.batches import JournalBatch
from schemas.codes import EventKind, Verdict
from schemas.config import MINUTE_NS, Config, parse_config
from schemas.records import MICRO
from schemas.sessions import Sessions

COMPILED = not numba.config.DISABLE_JIT
ORDERS = 100_000 if COMPILED else 1_500
LENGTH = 390 if COMPILED else 60
MOST_SESSIONS = 2_000
SETTLING = 3
SYMBOLS = ("A", "B", "C", "D")
FIRST = 1_700_000_040_000_000_000
DAY = 1440 * MINUTE_NS


def configuration(**faults: Any) -> Config:
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
            breakers__exit_failure__instruments_to_kill=1000,
            venue=base_with()["venue"] | ({"faults": {"seed": 7} | faults} if faults else {}),
        )
    )


class Day:
    """A session of slices of all instruments at each minute."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.offset = 0

    def journal(self, session: int, *, signals: bool) -> JournalBatch:
        n = len(SYMBOLS)
        events = np.zeros(LENGTH * n, EVENT)
        events["kind"] = EventKind.SLICE
        events["time_ns"] = np.repeat(FIRST + session * DAY + MINUTE_NS * np.arange(1, LENGTH + 1), n)
        events["instrument"] = np.tile(np.arange(n), LENGTH)
        prices = 100 * MICRO + self.rng.integers(-MICRO, MICRO, (2, LENGTH * n))
        events["open"], events["close"] = prices
        events["low"], events["high"] = prices.min(0), prices.max(0)
        events["volume"] = self.rng.integers(0, 10_000, LENGTH * n)
        values = np.zeros((LENGTH * n, n), np.int64)
        verdicts = np.full((LENGTH * n, n), Verdict.ABSENT, np.uint8)
        own = np.arange(LENGTH * n), events["instrument"]
        on = np.repeat(np.arange(LENGTH) % 2, n) == 0
        values[own] = np.where(on & signals, MICRO, 0)
        verdicts[own] = np.where(on & signals, Verdict.PASSED, Verdict.NEUTRAL)
        offset, self.offset = self.offset, self.offset + len(events)
        nothing = np.zeros(0, REPORT), np.zeros(0, COMMAND)
        return JournalBatch(offset, events, values, verdicts, *nothing, False)


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


def chaos(faults: dict[str, Decimal], orders: int) -> tuple[Account, int]:
    """The account when all is settled, and how many alerts there were."""
    config = configuration(**faults)
    opens = FIRST + DAY * np.arange(MOST_SESSIONS, dtype=np.int64)
    sessions = Sessions("TEST", opens, opens + LENGTH * MINUTE_NS)
    account = Account(config, account_rules(config, sessions, paper=True))
    day = Day(np.random.default_rng(11))
    session, told = 0, 0
    while account.state.account[0].orders < orders:
        told += sum(len(batch.alerts) for batch in account.step(day.journal(session, signals=True)))
        session += 1
    account.terms = venue_rules(configuration())  # good from now on
    for _ in range(SETTLING):
        account.step(day.journal(session, signals=False))
        session += 1
    return account, told


@pytest.mark.parametrize("name", MIXES)
def test_the_ledger_is_the_venues_books(name: str) -> None:
    faults = MIXES[name]
    orders = ORDERS if name == "nothing lost" else ORDERS // 20
    account, told = chaos(faults, orders)
    state, venue = account.state, account.venue
    assert state.positions.quantity.tolist() == venue.holdings.quantity.tolist() == [0] * len(SYMBOLS)
    assert int(state.account[0].cash) == int(venue.book[0].cash)
    ledger = state.account[0]
    assert int(ledger.cash) - int(ledger.realised) + int(ledger.fees) == 900_000_000 * MICRO
    assert int(ledger.fills) > orders // 4
    assert told > 0 or set(faults) <= {"partial", "duplicate", "delay"}
    assert int(venue.book[0].overflow) == int(ledger.overflow) == 0
