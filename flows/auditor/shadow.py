"""A shadow account: it writes by hand, row for row, what an account would have left, for the canaries."""

from functools import cache

import numpy as np

from flows.auditor.books import TERM, Terms
from flows.auditor.machine import AuditBatch, Names, Rows
from schemas.codes import (
    AlertKind,
    ExecutionKind,
    Intent,
    OrderKind,
    Outcome,
    Side,
    Stage,
)
from schemas.config import MINUTE_NS
from schemas.records import MICRO, Alert, Decision, Equity, Execution, Order, Record, dtype_of

CASH = 100_000 * MICRO
OPEN_NS = 1_000 * MINUTE_NS
LENGTH, NIGHT = 390, 1_440  # minutes
UP, DOWN = 0, 1  # the two sides of a family
NONE = -1

Row = dict[str, int]


class Shadow:
    """An account that writes what left it: two instruments on the two sides of a family, one strategy, two
    sessions. Times are minutes since the first open; every amount is exact.
    """

    def __init__(self) -> None:
        self.tables: dict[type[Record], list[Row]] = {
            model: [] for model in (Order, Execution, Decision, Alert, Equity)
        }
        self.ranges: list[tuple[int, int]] = []
        self.sequence = 0
        self.held = [0, 0]
        self.cash = CASH
        self.more_cash = 0  # than it should, the account says it ends with
        self.fees = 0
        self.identity = 0

    def record(self, model: type[Record], minute: int, **fields: int) -> Row:
        row = {"sequence": self.sequence, "time_ns": at(minute), **fields}
        self.sequence += 1
        self.tables[model].append(row)
        return row

    def decide(
        self, minute: int, i: int, target: int, outcome: Outcome = Outcome.APPROVED, **fields: int
    ) -> Row:
        held = self.held[i] if i != NONE else 0
        row = {"instrument": i, "strategy": 0, "outcome": outcome, "target": target, "position": held}
        return self.record(Decision, minute, **row | {"approved": target} | fields)

    def order(self, minute: int, i: int, side: Side, quantity: int, limit: int = 0, **fields: int) -> Row:
        """A decision and its order; a buy at a limit enters, a sale exits."""
        decision = self.decide(minute, i, self.held[i] + (quantity if side == Side.BUY else -quantity))
        return self.send(minute, i, side, quantity, limit, decision=decision["sequence"], **fields)

    def send(self, minute: int, i: int, side: Side, quantity: int, limit: int = 0, **fields: int) -> Row:
        row = {
            "kind": OrderKind.NEW,
            "instrument": i,
            "strategy": 0,
            "order_ns": at(minute),
            "intent": Intent.ENTRY if side == Side.BUY else Intent.EXIT,
            "attempt": 0,
            "side": side,
            "quantity": quantity,
            "limit_price": limit * MICRO,
        }
        return self.record(Order, minute, **row | fields)

    def ask(self, minute: int, order: Row, kind: OrderKind, **fields: int) -> Row:
        """A CANCEL, with its decision, or a QUERY of an order."""
        decision = order["decision"]
        if kind == OrderKind.CANCEL:
            decision = self.decide(minute, order["instrument"], 0)["sequence"]
        return self.repeat(minute, order, **{"kind": kind, "decision": decision} | fields)

    def repeat(self, minute: int, order: Row, **fields: int) -> Row:
        """A request with the content of another, on the same decision."""
        same = {key: value for key, value in order.items() if key not in ("sequence", "time_ns")}
        return self.record(Order, minute, **same | fields)

    def report(self, minute: int, order: Row, kind: ExecutionKind, **fields: int) -> Row:
        """An execution, with the account after it."""
        executions = self.tables[Execution]
        same = {key: order[key] for key in ("instrument", "order_ns", "intent", "attempt", "side")}
        row = {
            "number": len(executions),
            "time_ns": at(minute - 1),
            "known_ns": at(minute),
            "kind": kind,
            "quantity": 0,
            "price": 0,
            "fee": 0,
            "late": 0,
            **same,
        } | fields
        self.identity += 1
        row.setdefault("execution_id", self.identity)
        i = row["instrument"]
        undone = -1 if kind == ExecutionKind.BUST else 1
        signed = undone * (row["quantity"] if row["side"] == Side.BUY else -row["quantity"])
        self.cash -= signed * row["price"] + undone * row["fee"]
        self.fees += undone * row["fee"]
        self.held[i] += signed
        so_far = [
            (e["quantity"] if e["kind"] == ExecutionKind.FILL else -e["quantity"])
            for e in executions
            if all(e[key] == order[key] for key in ("instrument", "order_ns", "intent", "attempt"))
        ]
        row.setdefault("cumulative", sum(so_far) + undone * row["quantity"])
        row.setdefault("position", self.held[i])
        row.setdefault("cash", self.cash)
        executions.append(row)
        self.ranges.append((NONE, NONE))
        return row

    def fill(self, minute: int, order: Row, quantity: int, price: int, **fields: int) -> Row:
        fee = fields.pop("fee", quantity)
        return self.report(
            minute, order, ExecutionKind.FILL, quantity=quantity, price=price * MICRO, fee=fee, **fields
        )

    def enter(self, minute: int, i: int, quantity: int, price: int) -> Row:
        """An entry, filled a minute later."""
        order = self.order(minute, i, Side.BUY, quantity, price)
        self.fill(minute + 1, order, quantity, price)
        return order

    def leave(self, minute: int, i: int, quantity: int, price: int) -> Row:
        """An exit, filled a minute later."""
        order = self.order(minute, i, Side.SELL, quantity)
        self.fill(minute + 1, order, quantity, price)
        return order

    def alert(self, minute: int, kind: AlertKind, i: int = NONE, **fields: int) -> Row:
        return self.record(Alert, minute, kind=kind, instrument=i, **{"strategy": NONE} | fields)

    def value(self, minute: int, worth: int = 0) -> Row:
        """The account at a bar end, where all positions are worth `worth`."""
        row = {
            "time_ns": at(minute),
            "cash": self.cash,
            "position_value": worth,
            "equity": self.cash + worth,
            "realised_pnl": self.cash + self.fees - CASH,
            "fees": self.fees,
        }
        self.tables[Equity].append(row)
        return row

    def end_session(self, day: int = 0) -> None:
        minute = NIGHT * day + LENGTH
        self.value(minute)
        self.record(
            Decision,
            minute,
            instrument=NONE,
            strategy=NONE,
            stage=Stage.SESSION_END,
            outcome=Outcome.RECORDED,
        )

    def batch(self) -> AuditBatch:
        orders, executions, decisions, alerts, equity = (rows(*table) for table in self.tables.items())
        ranges = np.array(self.ranges, np.int64).reshape(-1, 2)
        return AuditBatch(orders, executions, decisions, alerts, equity, ranges)


def at(minute: int) -> int:
    return OPEN_NS + minute * MINUTE_NS


def rows(model: type[Record], data: list[Row]) -> Rows:
    """Rows of the fixed-width form; what is not given is 0."""
    table = np.zeros(len(data), dtype_of(model))
    for k, row in enumerate(data):
        for name, value in row.items():
            table[name][k] = value
    return table


@cache
def shadow_terms() -> tuple[Terms, Names]:
    term = np.zeros(1, TERM).view(np.recarray)
    term[0].cash, term[0].flat_by_ns, term[0].tolerance = CASH, MINUTE_NS, 20_000
    close_ns = np.array([at(LENGTH), at(NIGHT + LENGTH)])
    return Terms(term, np.zeros(2, np.int64), np.array([1, -1]), close_ns), Names(("UP", "DOWN"), 1)
