"""The audit on tables written by hand: a clean book passes, its own principle alone catches each breach."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from flows.audit import Finding, audit
from schemas.codes import ExecutionKind, Intent, OrderKind, Side
from schemas.config import Config, parse_config
from schemas.records import Execution, Order, dtype_of
from schemas.sessions import Sessions

Configuration = Callable[..., dict[str, Any]]

MICRO = 1_000_000
MINUTE = 60_000_000_000
DAY = 1440 * MINUTE
OPEN = 1_700_000_040_000_000_000  # a whole minute
LENGTH = 390 * MINUTE
SESSIONS = Sessions(
    "hand-made",
    np.array([OPEN + k * DAY for k in range(3)]),
    np.array([OPEN + k * DAY + LENGTH for k in range(3)]),
)
CASH = 100_000 * MICRO
QQQ, TQQQ, PSQ, SQQQ = range(4)


def at(minute: int, day: int = 0) -> int:
    return OPEN + day * DAY + minute * MINUTE


class Book:
    """Orders and executions as an account writes them. Whole prices, fees of one millionth a lot."""

    def __init__(self) -> None:
        self.orders: list[dict[str, int]] = []
        self.executions: list[dict[str, int]] = []
        self.position = [0, 0, 0, 0]
        self.cash = CASH
        self.sequence = 0

    def order(
        self,
        minute: int,
        instrument: int,
        side: Side,
        quantity: int,
        *,
        day: int = 0,
        limit: int = 0,
        attempt: int = 0,
    ) -> dict[str, int]:
        row = {
            "sequence": self.sequence + 1,
            "time_ns": at(minute, day),
            "kind": OrderKind.NEW,
            "instrument": instrument,
            "order_ns": at(minute, day),
            "intent": Intent.ENTRY if side == Side.BUY else Intent.EXIT,
            "attempt": attempt,
            "side": side,
            "quantity": quantity,
            "limit_price": limit * MICRO,
            "decision": self.sequence,
        }
        self.sequence += 2
        self.orders.append(row)
        return row

    def report(
        self,
        order: dict[str, int],
        minute: int,
        kind: ExecutionKind,
        quantity: int = 0,
        price: int = 0,
        *,
        day: int = 0,
        **changed: int,
    ) -> dict[str, int]:
        signed = quantity if order["side"] == Side.BUY else -quantity
        fee = quantity
        self.position[order["instrument"]] += signed
        self.cash -= signed * price * MICRO + fee
        same = ("order_ns", "intent", "attempt")
        before = [e for e in self.executions if all(e[k] == order[k] for k in (*same, "instrument"))]
        cumulative = quantity + sum(e["quantity"] for e in before)
        row = {
            "number": len(self.executions),
            "time_ns": at(minute - 1, day),
            "known_ns": at(minute, day),
            "kind": kind,
            "instrument": order["instrument"],
            **{name: order[name] for name in same},
            "side": order["side"],
            "quantity": quantity,
            "price": price * MICRO,
            "fee": fee,
            "cumulative": cumulative,
            "leaves": order["quantity"] - cumulative if kind == ExecutionKind.FILL else 0,
            "position": self.position[order["instrument"]],
            **changed,
        }
        self.executions.append(row)
        return row

    def fill(
        self, order: dict[str, int], minute: int, quantity: int, price: int, **more: int
    ) -> dict[str, int]:
        return self.report(order, minute, ExecutionKind.FILL, quantity, price, **more)

    def buy(self, minute: int, instrument: int, quantity: int, price: int, day: int = 0) -> None:
        """An order and its fill at the next bar."""
        order = self.order(minute, instrument, Side.BUY, quantity, day=day, limit=price + 1)
        self.fill(order, minute + 1, quantity, price, day=day)

    def sell(self, minute: int, instrument: int, quantity: int, price: int, day: int = 0) -> None:
        self.fill(
            self.order(minute, instrument, Side.SELL, quantity, day=day), minute + 1, quantity, price, day=day
        )


def rows(model: Any, data: list[dict[str, int]]) -> np.ndarray[Any, Any]:
    table = np.zeros(len(data), dtype_of(model))
    for k, row in enumerate(data):
        for name, value in row.items():
            table[name][k] = value
    return table


@pytest.fixture(scope="module")
def config(configuration: Configuration) -> Config:
    return parse_config(configuration(venue__commission_per_unit=0, venue__half_spread=0, venue__slippage=0))


def told(book: Book) -> list[dict[str, int]]:
    """The executions with the cash after each, in time, whatever order they were written in."""
    cash = CASH
    for row in sorted(book.executions, key=lambda row: (row["known_ns"], row["number"])):
        signed = row["quantity"] if row["side"] == Side.BUY else -row["quantity"]
        cash -= signed * row["price"] + row["fee"]
        row.setdefault("cash", cash)
    return book.executions


def findings(book: Book, config: Config, closing_cash: int | None = None) -> dict[str, Finding]:
    cash = book.cash if closing_cash is None else closing_cash
    return audit(rows(Order, book.orders), rows(Execution, told(book)), cash, config, SESSIONS)


def breached(book: Book, config: Config, closing_cash: int | None = None) -> list[str]:
    return [key for key, finding in findings(book, config, closing_cash).items() if not finding.held]


def clean_day() -> Book:
    """A round trip, a flip, a partial fill, a cancel and an expiry, flat at the close; then another day."""
    book = Book()
    book.buy(30, QQQ, 100, 500)
    book.sell(40, QQQ, 100, 501)
    book.buy(41, SQQQ, 1000, 30)
    part = book.order(50, SQQQ, Side.SELL, 1000)
    book.fill(part, 51, 600, 31)
    book.fill(part, 52, 400, 30)
    gone = book.order(60, TQQQ, Side.BUY, 500, limit=101)
    book.fill(gone, 61, 100, 100)
    book.report(gone, 62, ExecutionKind.CANCELLED)
    book.sell(63, TQQQ, 100, 100)
    late = book.order(374, PSQ, Side.BUY, 10, limit=41)
    book.report(late, 377, ExecutionKind.EXPIRED)
    book.buy(30, PSQ, 100, 40, day=1)
    book.sell(40, PSQ, 100, 41, day=1)
    return book


def test_a_clean_book_passes(config: Config) -> None:
    held = findings(clean_day(), config)
    assert [key for key, finding in held.items() if finding.held] == ["P1", "P2", "P3", "P4", "P5"]
    assert all(finding.breaches == 0 and finding.evidence for finding in held.values())


def test_nothing_at_all_passes(config: Config) -> None:
    assert breached(Book(), config) == []


def test_cash_that_was_never_there_is_caught(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 250, 500)  # 125,000 of 100,000
    book.sell(110, QQQ, 250, 500)
    assert breached(book, config) == ["P1"]


def test_open_buys_that_could_take_more_than_the_cash_are_caught(config: Config) -> None:
    book = clean_day()
    for instrument, limit in ((QQQ, 500), (TQQQ, 100)):
        order = book.order(100, instrument, Side.BUY, 60_000 // limit, limit=limit)
        book.report(order, 101, ExecutionKind.EXPIRED)
    assert breached(book, config) == ["P1"]


def test_an_open_buy_that_takes_all_the_cash_and_no_more_passes(config: Config) -> None:
    book = Book()
    order = book.order(100, QQQ, Side.BUY, 200, limit=500)
    book.report(order, 101, ExecutionKind.EXPIRED)
    assert breached(book, config) == []


def test_an_open_buy_of_one_lot_too_many_is_caught(config: Config) -> None:
    book = Book()
    order = book.order(100, QQQ, Side.BUY, 201, limit=500)
    book.report(order, 101, ExecutionKind.EXPIRED)
    assert breached(book, config) == ["P1"]


@pytest.mark.parametrize(("bull", "bear"), [(QQQ, PSQ), (QQQ, SQQQ), (TQQQ, PSQ), (TQQQ, SQQQ)])
def test_both_sides_held_are_caught(bull: int, bear: int, config: Config) -> None:
    book = clean_day()
    book.buy(100, bull, 10, 50)
    book.buy(110, bear, 10, 50)
    book.sell(120, bull, 10, 50)
    book.sell(130, bear, 10, 50)
    assert breached(book, config) == ["P2"]


def test_both_sides_by_open_orders_alone_are_caught(config: Config) -> None:
    book = clean_day()
    for instrument in (TQQQ, SQQQ):
        order = book.order(100, instrument, Side.BUY, 10, limit=50)
        book.report(order, 103, ExecutionKind.EXPIRED)
    assert breached(book, config) == ["P2"]


def test_an_entry_beside_an_exit_that_is_not_confirmed_is_caught(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500)
    out = book.order(110, QQQ, Side.SELL, 10)
    other = book.order(110, SQQQ, Side.BUY, 10, limit=31)
    book.fill(out, 111, 10, 500)
    book.fill(other, 111, 10, 30)
    book.sell(120, SQQQ, 10, 30)
    assert breached(book, config) == ["P2"]


def test_two_of_one_side_are_no_conflict(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500)
    book.buy(101, TQQQ, 10, 100)
    book.sell(120, QQQ, 10, 500)
    book.sell(121, TQQQ, 10, 100)
    assert breached(book, config) == []


def test_a_position_held_over_the_close_is_caught(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    book.sell(30, QQQ, 10, 500, day=2)
    assert breached(book, config) == ["P3"]


def test_a_position_never_sold_is_caught(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    assert breached(book, config) == ["P3"]


def test_a_sale_that_is_known_only_at_the_close_is_caught(config: Config) -> None:
    book = Book()
    book.buy(100, QQQ, 10, 500)
    book.sell(389, QQQ, 10, 500)
    assert breached(book, config) == ["P3"]


def test_a_fill_in_the_last_minute_is_caught(config: Config) -> None:
    book = Book()
    book.buy(100, QQQ, 10, 500)
    order = book.order(388, QQQ, Side.SELL, 10)
    book.fill(order, 389, 10, 500, known_ns=at(389) + 1)
    assert breached(book, config) == ["P3"]


def test_an_exit_that_is_known_sixty_seconds_before_the_close_passes(config: Config) -> None:
    book = Book()
    book.buy(100, QQQ, 10, 500)
    book.sell(388, QQQ, 10, 500)
    assert breached(book, config) == []


def test_an_order_open_over_the_close_is_caught(config: Config) -> None:
    book = clean_day()
    order = book.order(380, QQQ, Side.BUY, 10, day=1, limit=500)
    book.report(order, 390, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == ["P3"]


def test_an_order_that_never_ends_is_caught(config: Config) -> None:
    book = clean_day()
    book.order(380, QQQ, Side.BUY, 10, day=1, limit=500)
    assert breached(book, config) == ["P3"]


def test_two_openings_of_one_instrument_in_one_bar_are_caught(config: Config) -> None:
    book = clean_day()
    for attempt in (0, 1):
        order = book.order(100, QQQ, Side.BUY, 10, limit=500, attempt=attempt)
        book.report(order, 101, ExecutionKind.EXPIRED)
    assert breached(book, config) == ["P4"]


def test_openings_of_two_instruments_in_one_bar_pass(config: Config) -> None:
    book = clean_day()
    for instrument in (QQQ, TQQQ):
        order = book.order(100, instrument, Side.BUY, 10, limit=500)
        book.report(order, 101, ExecutionKind.EXPIRED)
    assert breached(book, config) == []


def test_a_short_is_caught(config: Config) -> None:
    book = clean_day()
    book.sell(100, QQQ, 10, 500)
    book.buy(110, QQQ, 10, 500)
    assert breached(book, config) == ["P5"]


def test_open_sells_beyond_the_position_are_caught(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500)
    first = book.order(110, QQQ, Side.SELL, 10)
    second = book.order(110, QQQ, Side.SELL, 1, attempt=1)
    book.report(second, 111, ExecutionKind.EXPIRED)
    book.fill(first, 112, 10, 500)
    assert breached(book, config) == ["P5"]


def test_a_position_that_differs_from_the_fills_is_caught(config: Config) -> None:
    book = clean_day()
    book.executions[3]["position"] += 1
    assert breached(book, config) == ["P5"]


def test_a_cumulative_quantity_that_differs_from_the_fills_is_caught(config: Config) -> None:
    book = clean_day()
    book.executions[4]["cumulative"] += 1
    assert breached(book, config) == ["P5"]


@pytest.mark.parametrize("off", [-1, 1])
def test_cash_that_differs_by_a_millionth_is_caught(off: int, config: Config) -> None:
    book = clean_day()
    assert breached(book, config, book.cash + off) == ["P5"]


def test_a_missing_fill_is_caught(config: Config) -> None:
    book = clean_day()
    del book.executions[0]
    assert "P5" in breached(book, config)


def test_a_doubled_fill_is_caught(config: Config) -> None:
    book = clean_day()
    book.executions.insert(1, dict(book.executions[0]))
    assert "P5" in breached(book, config)


def test_every_breach_is_counted(config: Config) -> None:
    book = clean_day()
    for minute in (100, 200, 300):
        for attempt in (0, 1):
            order = book.order(minute, QQQ, Side.BUY, 10, limit=500, attempt=attempt)
            book.report(order, minute + 1, ExecutionKind.EXPIRED)
    assert findings(book, config)["P4"].breaches == 3


def test_two_buys_in_a_bar_are_caught_whatever_they_are_said_to_be_for(config: Config) -> None:
    book = clean_day()
    for attempt in (0, 1):
        order = book.order(100, QQQ, Side.BUY, 10, limit=501, attempt=attempt)
        order["intent"] = Intent.EXIT
        book.report(order, 101, ExecutionKind.EXPIRED)
    assert breached(book, config) == ["P4"]


def test_cash_after_a_fill_that_differs_is_caught(config: Config) -> None:
    book = clean_day()
    told(book)[2]["cash"] += 1
    assert breached(book, config) == ["P5"]


def test_a_fill_beyond_its_limit_is_caught(config: Config) -> None:
    book = clean_day()
    book.fill(book.order(100, QQQ, Side.BUY, 10, limit=501), 101, 10, 502)
    book.sell(110, QQQ, 10, 500)
    assert breached(book, config) == ["P5"]


def test_more_filled_than_ordered_is_caught(config: Config) -> None:
    book = clean_day()
    book.fill(book.order(100, QQQ, Side.BUY, 10, limit=501), 101, 15, 500)
    book.sell(110, QQQ, 15, 500)
    assert "P5" in breached(book, config)


def test_a_fill_of_no_order_is_caught(config: Config) -> None:
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 10, limit=501)
    book.fill(order, 101, 10, 500)
    book.sell(110, QQQ, 10, 500)
    book.orders.remove(order)
    assert "P5" in breached(book, config)


def test_a_short_does_not_hide_a_conflict(config: Config) -> None:
    book = clean_day()
    book.sell(99, QQQ, 10, 50)
    book.buy(100, TQQQ, 10, 50)
    book.buy(101, SQQQ, 10, 50)
    book.sell(110, TQQQ, 10, 50)
    book.sell(111, SQQQ, 10, 50)
    book.buy(120, QQQ, 10, 50)
    assert breached(book, config) == ["P2", "P5"]
