"""The paper venue as a process of its own: the same reports, in whatever portions it reads."""

from typing import Any

import numpy as np
from account_fixtures import BASE, MINUTE, at, make_sessions
from base_config import base_with
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.account_state import COMMAND, EVENT, REPORT
from operators.venue_machine import ORDER, PaperVenue
from schemas.batches import JournalRows, VenueInput
from schemas.codes import EventKind, ExecutionKind, Intent, OrderKind, Side, Verdict
from schemas.config import parse_config
from schemas.records import MICRO

CONFIG = parse_config(base_with(BASE))
SESSIONS = make_sessions(30, 30)
PRICE = 100 * MICRO
NOTHING = np.zeros(0, REPORT), np.zeros(0, COMMAND)


def venue() -> PaperVenue:
    return PaperVenue(CONFIG, SESSIONS, grace_ns=0)


def bars(first: int, *times: int) -> JournalRows:
    """A bar of each instrument at each time, from offset `first` on; a tick behind it says that all came."""
    n = len(CONFIG.instruments)
    events = np.zeros(n * len(times), EVENT)
    events["kind"] = EventKind.SLICE
    events["time_ns"] = np.repeat(times, n)
    events["instrument"] = np.tile(np.arange(n), len(times))
    for name in ("open", "high", "low", "close"):
        events[name] = PRICE
    events["volume"] = 10_000
    return rows(first, events)


def tick(first: int, time_ns: int) -> JournalRows:
    events = np.zeros(1, EVENT)
    events["kind"], events["time_ns"], events["instrument"] = EventKind.TICK, time_ns, -1
    return rows(first, events)


def rows(first: int, events: Any) -> JournalRows:
    values = np.zeros((len(events), 1), np.int64)
    verdicts = np.full(values.shape, Verdict.ABSENT, np.uint8)
    return JournalRows(np.arange(first, first + len(events)), events, values, verdicts, *NOTHING)


def buy(time_ns: int, instrument: int = 0, quantity: int = 10) -> Any:
    order = np.zeros(1, ORDER)
    order["kind"], order["side"], order["intent"] = OrderKind.NEW, Side.BUY, Intent.ENTRY
    order["time_ns"] = order["order_ns"] = time_ns
    order["instrument"], order["quantity"] = instrument, quantity
    return order


def told(batches: list[Any]) -> list[tuple[ExecutionKind, int, int]]:
    return [
        (ExecutionKind(r["kind"]), int(r["time_ns"]), int(r["quantity"])) for b in batches for r in b.reports
    ]


def hear(machine: PaperVenue, journal: JournalRows | None = None, orders: Any = None) -> Any:
    return machine.step(VenueInput(journal, np.zeros(0, ORDER) if orders is None else orders))


def test_an_order_is_accepted_and_fills_at_the_bar_that_opens_behind_it() -> None:
    machine = venue()
    hear(machine, bars(0, at(0, 1)))
    assert told(hear(machine, orders=buy(at(0, 1)))) == [(ExecutionKind.ACCEPTED, at(0, 1), 0)]
    assert told(hear(machine, bars(4, at(0, 2))))[0][::2] == (ExecutionKind.FILL, 10)


def test_a_request_from_ahead_waits_until_the_venue_has_come_as_far() -> None:
    machine = venue()
    hear(machine, bars(0, at(0, 1)))
    assert told(hear(machine, orders=buy(at(0, 2)))) == []
    assert told(hear(machine, bars(4, at(0, 2)))) == [(ExecutionKind.ACCEPTED, at(0, 2), 0)]


def test_a_request_comes_before_the_bars_that_ended_after_it_was_sent() -> None:
    machine = venue()
    hear(machine, bars(0, at(0, 1)))
    later = told(hear(machine, bars(4, at(0, 2), at(0, 3)), buy(at(0, 1))))
    assert [kind for kind, _, _ in later] == [ExecutionKind.ACCEPTED, ExecutionKind.FILL]


def test_the_close_ends_day_orders_and_brings_statements() -> None:
    machine = venue()
    hear(machine, bars(0, at(0, 1)))
    hear(machine, orders=buy(at(0, 1), quantity=1_000_000))
    last = told(hear(machine, tick(4, at(0, 30) + 1)))
    assert [kind for kind, _, _ in last] == [
        ExecutionKind.EXPIRED, ExecutionKind.POSITION, ExecutionKind.CASH
    ]  # fmt: skip
    assert {time_ns for _, time_ns, _ in last} == {at(0, 30)}
    assert told(hear(machine, tick(5, at(1, 1)))) == []


def test_reports_are_numbered_from_the_first() -> None:
    machine = venue()
    hear(machine, bars(0, at(0, 1)))
    (first,) = hear(machine, orders=np.concatenate([buy(at(0, 1)), buy(at(0, 1), 1)]))
    (second,) = hear(machine, bars(4, at(0, 2)))
    assert (first.number, len(first.reports), second.number) == (0, 2, 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 28), st.integers(0, 3)), max_size=12), st.data())
def test_reports_do_not_depend_on_portions_or_restarts(wanted: list[tuple[int, int]], data: Any) -> None:
    """As at a restart: requests that left before a bar was written are known when the bar is read."""
    requests = np.concatenate([np.zeros(0, ORDER), *[buy(at(0, m), i) for m, i in sorted(set(wanted))]])
    minutes = [at(0, m) for m in range(1, 30)]
    n = len(CONFIG.instruments)
    whole = hear(venue(), bars(0, *minutes), requests)
    cuts = [*sorted(data.draw(st.sets(st.integers(1, len(minutes) - 1), max_size=5))), len(minutes)]
    machine, first, parts = venue(), 0, []
    heard = 0
    for cut in cuts:
        known = int(np.searchsorted(requests["time_ns"], minutes[cut - 1] - MINUTE // 2))
        parts += hear(machine, bars(first * n, *minutes[first:cut]), requests[heard:known])
        resumed = venue()
        resumed.load(machine.dump())
        machine, first, heard = resumed, cut, known
    parts += hear(machine, orders=requests[heard:])
    assert (
        np.concatenate([np.zeros(0, REPORT), *[p.reports for p in parts]]).tolist()
        == np.concatenate([np.zeros(0, REPORT), *[p.reports for p in whole]]).tolist()
    )
    assert [p.number for p in parts] == [sum(len(q.reports) for q in parts[:k]) for k in range(len(parts))]
