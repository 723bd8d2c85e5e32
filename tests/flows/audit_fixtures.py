"""An account's book, written by hand for tests of the audit: orders, executions, decisions, alerts and equity
as they leave an account. Prices are whole, the fee of a lot is a millionth.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from connectors.config_file import DEPLOY, load_config
from flows.auditor import AuditBatch
from schemas.codes import AlertKind, ExecutionKind, Intent, OrderKind, Outcome, Side, Stage
from schemas.records import Alert, Decision, Equity, Execution, Names, Order, dtype_of, to_arrow
from schemas.sessions import Sessions

MICRO = 1_000_000
MINUTE = 60_000_000_000
DAY = 1440 * MINUTE
OPEN = int(np.datetime64("2024-12-02T14:30", "ns").astype(np.int64))  # and the next two days as well
LENGTH = 390 * MINUTE
SESSIONS = Sessions(
    "XNYS",
    np.array([OPEN + k * DAY for k in range(3)]),
    np.array([OPEN + k * DAY + LENGTH for k in range(3)]),
)
CASH = 100_000 * MICRO
QQQ, TQQQ, PSQ, SQQQ = range(4)
NONE = -1
ID = ("instrument", "order_ns", "intent", "attempt")

Row = dict[str, int]


def at(minute: int, day: int = 0) -> int:
    return OPEN + day * DAY + minute * MINUTE


def rows(model: Any, data: list[Row]) -> np.ndarray[Any, Any]:
    table = np.zeros(len(data), dtype_of(model))
    for k, row in enumerate(data):
        for name, value in row.items():
            table[name][k] = value
    return table


COSTS = ("half_spread = 0.00005", "slippage = 0.00005", "commission_per_unit = 0.005")


def free_config(path: Path) -> Path:
    """The demo's configuration without costs, so that amounts are round."""
    text = (DEPLOY / "demo.toml").read_text(encoding="utf-8")
    for line in COSTS:
        assert line in text
        text = text.replace(line, f"{line.split()[0]} = 0")
    path.write_text(text, encoding="utf-8")
    return path


class Book:
    """Rows are appended in the order of the calls. Any field of a row can be given by name."""

    def __init__(self) -> None:
        self.orders: list[Row] = []
        self.executions: list[Row] = []
        self.decisions: list[Row] = []
        self.alerts: list[Row] = []
        self.equity: list[Row] = []
        self.position = [0, 0, 0, 0]
        self.cash = CASH
        self.fees = 0
        self.sequence = 0

    def _next(self) -> int:
        self.sequence += 1
        return self.sequence - 1

    def decision(
        self,
        minute: int,
        instrument: int,
        target: int,
        outcome: Outcome = Outcome.APPROVED,
        *,
        day: int = 0,
        **changed: int,
    ) -> Row:
        row = {
            "sequence": self._next(),
            "time_ns": at(minute, day),
            "instrument": instrument,
            "outcome": outcome,
            "target": target,
            "approved": target,
            "position": self.position[instrument] if instrument != NONE else 0,
            **changed,
        }
        self.decisions.append(row)
        return row

    def order(
        self,
        minute: int,
        instrument: int,
        side: Side,
        quantity: int,
        *,
        day: int = 0,
        limit: int = 0,
        **changed: int,
    ) -> Row:
        """A NEW and, unless `decision` is given, its decision."""
        if "decision" not in changed:
            signed = quantity if side == Side.BUY else -quantity
            target = self.position[instrument] + signed
            changed["decision"] = self.decision(minute, instrument, target, day=day)["sequence"]
        row = {
            "sequence": self._next(),
            "time_ns": at(minute, day),
            "kind": OrderKind.NEW,
            "instrument": instrument,
            "strategy": 0,
            "order_ns": at(minute, day),
            "intent": Intent.ENTRY if side == Side.BUY else Intent.EXIT,
            "attempt": 0,
            "side": side,
            "quantity": quantity,
            "limit_price": limit * MICRO,
            **changed,
        }
        self.orders.append(row)
        return row

    def request(self, minute: int, order: Row, kind: OrderKind, *, day: int = 0, **changed: int) -> Row:
        """A CANCEL, with a decision, or a QUERY."""
        if kind == OrderKind.CANCEL and "decision" not in changed:
            decision = self.decision(minute, order["instrument"], self.position[order["instrument"]], day=day)
            changed["decision"] = decision["sequence"]
        row = {**order, "sequence": self._next(), "time_ns": at(minute, day), "kind": kind, **changed}
        self.orders.append(row)
        return row

    def report(
        self,
        order: Row,
        minute: int,
        kind: ExecutionKind,
        quantity: int = 0,
        price: int = 0,
        *,
        day: int = 0,
        **changed: int,
    ) -> Row:
        row = {
            "number": len(self.executions),
            "execution_id": len(self.executions) + 1,
            "time_ns": at(minute - 1, day),
            "known_ns": at(minute, day),
            "kind": kind,
            **{name: order[name] for name in ID},
            "side": order["side"],
            "quantity": quantity,
            "price": price * MICRO,
            "fee": quantity,
            **changed,
        }
        way = -1 if kind == ExecutionKind.BUST else 1
        signed = way * (row["quantity"] if row["side"] == Side.BUY else -row["quantity"])
        if row["instrument"] != NONE:
            self.position[row["instrument"]] += signed
            row.setdefault("position", self.position[row["instrument"]])
        self.cash -= signed * row["price"] + way * row["fee"]
        self.fees += way * row["fee"]
        before = [e for e in self.executions if all(e[k] == row[k] for k in ID)]
        ways = [-e["quantity"] if e["kind"] == ExecutionKind.BUST else e["quantity"] for e in before]
        row.setdefault("cumulative", sum(ways) + way * row["quantity"])
        row.setdefault("cash", self.cash)
        self.executions.append(row)
        return row

    def fill(self, order: Row, minute: int, quantity: int, price: int, **more: int) -> Row:
        return self.report(order, minute, ExecutionKind.FILL, quantity, price, **more)

    def buy(self, minute: int, instrument: int, quantity: int, price: int, day: int = 0) -> Row:
        """An order and its fill at the next bar."""
        order = self.order(minute, instrument, Side.BUY, quantity, day=day, limit=price + 1)
        self.fill(order, minute + 1, quantity, price, day=day)
        return order

    def sell(self, minute: int, instrument: int, quantity: int, price: int, day: int = 0) -> Row:
        order = self.order(minute, instrument, Side.SELL, quantity, day=day)
        self.fill(order, minute + 1, quantity, price, day=day)
        return order

    def alert(
        self, minute: int, kind: AlertKind, instrument: int = NONE, *, day: int = 0, **changed: int
    ) -> Row:
        row = {
            "sequence": self._next(),
            "time_ns": at(minute, day),
            "kind": kind,
            "instrument": instrument,
            "strategy": NONE,
            **changed,
        }
        self.alerts.append(row)
        return row

    def value(self, minute: int, worth: int = 0, *, day: int = 0, **changed: int) -> Row:
        """The account at a bar end; what it holds is worth `worth` and cost as much."""
        row = {
            "time_ns": at(minute, day),
            "cash": self.cash,
            "position_value": worth,
            "equity": self.cash + worth,
            "realised_pnl": self.cash + worth + self.fees - CASH,
            "fees": self.fees,
            **changed,
        }
        self.equity.append(row)
        return row

    def close(self, day: int = 0) -> None:
        """The end of a session."""
        self.value(390, day=day)
        self.decision(390, NONE, 0, Outcome.RECORDED, day=day, stage=Stage.SESSION_END)

    def batch(self, **more: Any) -> AuditBatch:
        return AuditBatch(
            rows(Order, self.orders),
            rows(Execution, self.executions),
            rows(Decision, self.decisions),
            rows(Alert, self.alerts),
            rows(Equity, self.equity),
            **more,
        )


def clean_day() -> Book:
    """A round trip, a flip, a partial fill, a cancel, an exit at a limit and an expiry, flat at the close;
    then another day.
    """
    book = Book()
    book.buy(30, QQQ, 100, 500)
    book.value(31, 50_000 * MICRO)
    book.sell(40, QQQ, 100, 501)
    book.buy(41, SQQQ, 1000, 30)
    part = book.order(50, SQQQ, Side.SELL, 1000, limit=29)
    book.fill(part, 51, 600, 31)
    book.fill(part, 52, 400, 30)
    book.value(53)
    gone = book.order(60, TQQQ, Side.BUY, 500, limit=101)
    book.fill(gone, 61, 100, 100)
    book.request(61, gone, OrderKind.CANCEL)
    book.report(gone, 62, ExecutionKind.CANCELLED)
    book.decision(62, PSQ, 10, Outcome.REFUSED, approved=0)
    book.sell(63, TQQQ, 100, 100)
    late = book.order(374, PSQ, Side.BUY, 10, limit=41)
    book.report(late, 377, ExecutionKind.EXPIRED)
    book.close()
    book.buy(30, PSQ, 100, 40, day=1)
    book.sell(40, PSQ, 100, 41, day=1)
    return book


def result_folder(book: Book, out: Path, config: Path, **summary: Any) -> Path:
    """The book as a run would have left it."""
    out.mkdir(parents=True, exist_ok=True)
    loaded = load_config(config)
    names = Names(loaded.account.id, loaded.instruments, tuple(s.name for s in loaded.strategies))
    tables = {
        "orders": (Order, book.orders),
        "executions": (Execution, book.executions),
        "decisions": (Decision, book.decisions),
        "alerts": (Alert, book.alerts),
        "equity": (Equity, book.equity),
    }
    for name, (model, data) in tables.items():
        pq.write_table(
            to_arrow(model, rows(model, data), names), out / f"{name}.parquet", store_decimal_as_integer=True
        )
    told = {
        "orders": sum(row["kind"] == OrderKind.NEW for row in book.orders),
        "cancels": sum(row["kind"] == OrderKind.CANCEL for row in book.orders),
        "fills": sum(row["kind"] == ExecutionKind.FILL for row in book.executions),
        "bar_ends": len(book.equity),
        "sessions": sum(row.get("stage") == Stage.SESSION_END for row in book.decisions),
        "config": str(config),
        "config_hash": loaded.hash,
        "digest": "of this book",
    }
    (out / "summary.json").write_text(json.dumps({**told, **summary}), encoding="utf-8")
    return out
