"""A small account for tests: its configuration, its sessions, and a journal written by hand.

Four instruments of one family; weights of one half; no spread; a commission of 0.01. Sessions are counted in
minutes from their open: the bar of minute m ends m minutes after the open, so a session of 30 minutes has
bars 1 to 30. Prices in tests are units of currency, `money` makes millionths of them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import numba
import numpy as np
from base_config import base_with
from numpy.typing import NDArray

from operators.account import apply_events
from operators.account_rules import account_rules, initial_state
from operators.account_state import (
    COMMAND,
    EVENT,
    REPORT,
    Output,
    Rules,
    State,
    records,
    rows_per_group,
    state_of,
)
from operators.paper_venue import Venue, VenueRules, new_venue, venue_of, venue_rules
from schemas.codes import (
    AlertKind,
    ControlAction,
    EventKind,
    ExecutionKind,
    OrderKind,
    OrderState,
    Reason,
    Verdict,
)
from schemas.config import NS, Config, parse_config
from schemas.records import MAX_INT, Alert, Decision, Equity, Execution, Order, dtype_of
from schemas.sessions import Sessions

MICRO = 1_000_000
MINUTE = 60_000_000_000
DAY = 1440 * MINUTE
FIRST_OPEN = 1_700_000_040_000_000_000  # a whole minute
QQQ, TQQQ, PSQ, SQQQ = range(4)
BULL, BULL3 = 300_000, 600_000  # scores that choose QQQ and TQQQ; their negatives choose PSQ and SQQQ
PLAIN_PRICES = (100, 50, 20, 10)

COMPILED = not numba.config.DISABLE_JIT

BASE = base_with(
    account__cash=10_000,
    gates__size__max_volume_share=1,
    venue__half_spread=0,
    venue__slippage=0,
    venue__commission_per_unit=Decimal("0.01"),
    strategies=[
        {
            "name": "first",
            "kind": "sigor",
            "parameters": {},
            "signals": ["QQQ"],
            "family": "QQQ",
            "capital_share": 1,
            "filter": {"cooldown": 0, "noise_factor": 0, "noise_window": 10, "min_score": 0},
        }
    ],
)
for _side in ("bull", "bear"):
    for _tier in BASE["families"][0][_side]:
        _tier["weight"] = Decimal("0.5")


def money(value: "int | str") -> int:
    """Currency as millionths."""
    return int(Decimal(value) * MICRO)


def make_config(**changes: Any) -> Config:
    """The base with some keys changed; `gates__cash__collar=...` is the key gates.cash.collar."""
    return parse_config(base_with(BASE, **changes))


def strategy(
    name: str, share: "int | str", signal: str = "QQQ", family: str | None = "QQQ"
) -> dict[str, Any]:
    """One more strategy for `make_config(strategies=[...])`."""
    row = {**BASE["strategies"][0], "name": name, "signals": [signal], "capital_share": Decimal(share)}
    if family is None:
        del row["family"]
    return row


def make_sessions(*minutes: int) -> Sessions:
    """One session a day, each of so many minutes."""
    opens = FIRST_OPEN + DAY * np.arange(len(minutes), dtype=np.int64)
    return Sessions("TEST", opens, opens + MINUTE * np.array(minutes, np.int64))


def at(session: int, minute: int) -> int:
    """The end of the bar of that minute."""
    return FIRST_OPEN + session * DAY + minute * MINUTE


class Row(NamedTuple):
    """One row of a journal; `instrument` -1 is a tick. `values`, `verdicts` by strategy; () is none. `report`
    or `command`: a record that makes it an execution or a control instead.
    """

    time_ns: int
    instrument: int
    open: int = 0
    close: int = 0
    volume: int = 0
    values: tuple[int, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    report: Any = None
    command: Any = None


Journal = tuple[NDArray[Any], NDArray[np.int64], NDArray[np.uint8], NDArray[Any], NDArray[Any]]


def journal(rows: Sequence[Row], strategies: int) -> Journal:
    """Rows as the arrays a kernel reads."""
    events = records(EVENT, len(rows))
    values = np.zeros((len(rows), strategies), np.int64)
    verdicts = np.full((len(rows), strategies), Verdict.ABSENT, np.uint8)
    reports = [row.report for row in rows if row.report is not None]
    commands = [row.command for row in rows if row.command is not None]
    said = {EventKind.EXECUTION: 0, EventKind.CONTROL: 0}
    for k, row in enumerate(rows):
        kind = EventKind.TICK if row.instrument < 0 else EventKind.SLICE
        if row.report is not None:
            kind = EventKind.EXECUTION
        if row.command is not None:
            kind = EventKind.CONTROL
        detail = said.get(kind, 0)
        if kind in said:
            said[kind] += 1
        low, high = min(row.open, row.close), max(row.open, row.close)
        events[k] = (kind, row.time_ns, row.instrument, detail, row.open, high, low, row.close, row.volume)
        if row.values:
            values[k] = row.values
            verdicts[k] = row.verdicts
    return events, values, verdicts, _table(REPORT, reports), _table(COMMAND, commands)


def _table(dtype: np.dtype[Any], rows: Sequence[Any]) -> NDArray[Any]:
    table = records(dtype, len(rows))
    for k, row in enumerate(rows):
        table[k] = row
    return table


MODELS = {"orders": Order, "executions": Execution, "decisions": Decision, "equity": Equity, "alerts": Alert}
NAMES = tuple(MODELS)
GARBAGE = -7_777


def make_output(instruments: int, groups: int) -> Output:
    """Buffers that hold just so many groups of events, full of garbage."""
    rows = groups * rows_per_group(instruments, instruments + 1)
    buffers = [records(dtype_of(model), rows) for model in MODELS.values()]
    for buffer in buffers:
        buffer.view(np.int64)[:] = GARBAGE
    return Output(*buffers, np.zeros(5, np.int64))


@dataclass
class Player:
    """Applies journals to an account and keeps everything that came out."""

    config: Config
    rules: Rules
    state: State
    output: Output
    venue: Venue
    terms: VenueRules
    inbox: Any
    rows: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in NAMES})

    @classmethod
    def of(cls, config: Config, sessions: Sessions, *, tiny: bool = False, paper: bool = True) -> "Player":
        """`paper`: the venue is inside the stage; otherwise reports come by the journal."""
        rules = account_rules(config, sessions, paper=paper)
        output = make_output(len(config.instruments), 1 if tiny else 3)
        venue, terms, inbox = new_venue(config), venue_rules(config), records(REPORT, 1)
        return cls(config, rules, initial_state(config, rules), output, venue, terms, inbox)

    def apply(self, rows: Sequence[Row]) -> None:
        self.apply_journal(journal(rows, len(self.config.strategies)))

    def apply_journal(self, written: Journal) -> None:
        row = 0
        while row < len(written[0]):
            self.output.counts[:] = 0
            before = row
            row = apply_events(
                *written, row, self.state, self.rules, self.output, self.venue, self.terms, self.inbox
            )
            assert row > before
            assert self.account.overflow == 0
            for k, name in enumerate(NAMES):
                rows = self.output[k][: self.output.counts[k]]
                assert not (rows.view(np.int64) == GARBAGE).any(), name
                self.rows[name] += rows.tolist()
                self.output[k].view(np.int64)[:] = GARBAGE

    def dump_and_load(self) -> None:
        """Go on with a copy of the state's bytes."""
        self.state = state_of(np.frombuffer(self.state.words.tobytes(), np.int64).copy(), self.rules)
        self.venue = venue_of(self.venue.words.copy(), len(self.config.instruments))

    def table(self, name: str) -> NDArray[Any]:
        """All rows of one output so far."""
        return np.array(self.rows[name], dtype_of(MODELS[name])).view(np.recarray)

    @property
    def orders(self) -> NDArray[Any]:
        return self.table("orders")

    @property
    def executions(self) -> NDArray[Any]:
        return self.table("executions")

    @property
    def decisions(self) -> NDArray[Any]:
        return self.table("decisions")

    @property
    def alerts(self) -> NDArray[Any]:
        return self.table("alerts")

    @property
    def account(self) -> Any:
        return self.state.account[0]

    def position(self, instrument: int) -> int:
        return int(self.state.positions[instrument].quantity)


def minutes(
    session: int,
    span: Iterable[int],
    *,
    score: "int | Callable[[int], int]" = 0,
    price: "Callable[[int, int], tuple[int, int]] | None" = None,
    volume: "int | Callable[[int, int], int]" = 100_000,
    missing: "Callable[[int, int], bool] | None" = None,
    instruments: Sequence[int] = (QQQ, TQQQ, PSQ, SQQQ),
) -> list[Row]:
    """Slices of all instruments and a tick at each minute.

    `score`: of the first strategy, on the bars of the first instrument, by minute. `price` by instrument and
    minute: open and close in millionths. `volume` and `missing` by instrument and minute.
    """
    rows = []
    for minute in span:
        for i in instruments:
            if missing is not None and missing(i, minute):
                continue
            plain = money(PLAIN_PRICES[i])
            opened, closed = price(i, minute) if price is not None else (plain, plain)
            traded = volume(i, minute) if callable(volume) else volume
            value = score(minute) if callable(score) else score
            signal: dict[str, Any] = {}
            if i == QQQ:
                signal = {"values": (value,), "verdicts": (Verdict.PASSED if value else Verdict.NEUTRAL,)}
            rows.append(Row(at(session, minute), i, opened, closed, traded, **signal))
        rows.append(Row(at(session, minute), -1))
    return rows


def a_busy_day() -> list[Row]:
    """Three sessions of 30 minutes: sides and tiers change, bars are empty or missing, one session ends with
    something held.
    """
    scores = [0, BULL, BULL, BULL3, BULL3, -BULL, -BULL, 0, -BULL3, BULL]

    def missing(instrument: int, minute: int) -> bool:
        return (minute * 7 + instrument * 3) % 11 == 0

    def volume(instrument: int, minute: int) -> int:
        return (0, 150, 300, 100_000)[(minute * 5 + instrument) % 4]

    def price(instrument: int, minute: int) -> tuple[int, int]:
        base = money(PLAIN_PRICES[instrument])
        return base + base * (minute % 5) // 200, base + base * (minute % 3) // 150

    return [
        row
        for session in range(3)
        for row in minutes(
            session,
            range(1, 31),
            score=lambda m, s=session: BULL if s == 1 else scores[m % 10],
            missing=lambda i, m, s=session: missing(i, m) or (s == 1 and m > 25),
            volume=volume,
            price=price,
        )
    ]


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows by time."""
    found: list[list[Row]] = []
    for row in rows:
        if found and found[-1][0].time_ns == row.time_ns:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def report(kind: ExecutionKind, order: Any = None, **fields: int) -> Any:
    """A venue's report, of an order where one is given: a row of orders, which it names."""
    row = records(REPORT, 1)[0]
    row.instrument = -1
    if order is not None:
        for name in ("instrument", "order_ns", "intent", "attempt", "side"):
            row[name] = order[name]
    row.kind = kind
    for name, value in fields.items():
        row[name] = value
    return row


def command(action: ControlAction, number: int = 1, **fields: int) -> Any:
    """An operator's command with two keys; a greater `number` is newer."""
    row = records(COMMAND, 1)[0]
    row.breaker = row.strategy = row.instrument = row.limit = -1
    row.action, row.command_id, row.expires_ns, row.keys = action, number, MAX_INT, 2
    for name, value in fields.items():
        row[name] = value
    return row


class Said(NamedTuple):
    """An alert: what it says and the two numbers behind it."""

    kind: AlertKind
    observed: int
    limit: int


@dataclass
class Desk:
    """An account whose venue is the test: reports come by the journal. After every event the ledger adds up
    and the output has one sequence.
    """

    player: Player
    now: int = at(0, 0)
    executions: int = 0

    @classmethod
    def of(cls, *lengths: int, **changes: Any) -> "Desk":
        """Sessions of `lengths` minutes, two of an hour where none are given."""
        return cls(Player.of(make_config(**changes), make_sessions(*(lengths or (60, 60))), paper=False))

    def apply(self, rows: Sequence[Row]) -> None:
        self.player.apply(rows)
        self.now = rows[-1].time_ns
        self.check()

    def bars(self, minute: int, score: int = 0, session: int = 0, **changes: Any) -> None:
        """A bar of every instrument; `score` as in `minutes`."""
        self.apply(minutes(session, [minute], score=score, **changes))

    def hear(self, *reports: Any, after: float = 1) -> None:
        """Reports of one time, so many seconds after what was last."""
        self.now += round(after * NS)
        self.apply([Row(self.now, -1, report=said) for said in reports])

    def wait(self, seconds: float) -> None:
        """A tick after so many seconds."""
        self.now += round(seconds * NS)
        self.apply([Row(self.now, -1)])

    def fill(self, order: Any, quantity: int, price: "int | str" = 100, **fields: int) -> Any:
        """A fill with an id of its own."""
        self.executions += 1
        own = {"execution_id": self.executions, "quantity": quantity, "price": money(price)}
        return report(ExecutionKind.FILL, order, **(own | fields))

    def bust(self, fill: Any, **fields: int) -> Any:
        """The report that undoes `fill`."""
        self.executions += 1
        row = report(ExecutionKind.BUST, fill)
        for name in ("quantity", "price", "fee"):
            row[name] = fill[name]
        row.execution_id, row.reference_id = self.executions, fill.execution_id
        for name, value in fields.items():
            row[name] = value
        return row

    def order_of_operator(self, action: ControlAction, number: int = 1) -> None:
        """A command, a second later."""
        self.now += NS
        self.apply([Row(self.now, -1, command=command(action, number))])

    def sent(self, instrument: int | None = None) -> list[Any]:
        """Every order that asks for a trade."""
        return [
            order
            for order in self.player.orders
            if order.kind == OrderKind.NEW and instrument in (None, order.instrument)
        ]

    def order(self, instrument: int = QQQ) -> Any:
        """The last of them."""
        return self.sent(instrument)[-1]

    def asked(self, kind: OrderKind = OrderKind.QUERY) -> list[tuple[int, int, int]]:
        """(time, instrument, attempt) of what was asked of orders."""
        return [
            (int(o.time_ns), int(o.instrument), int(o.attempt)) for o in self.player.orders if o.kind == kind
        ]

    def state(self, instrument: int = QQQ) -> OrderState:
        return OrderState(int(self.player.state.orders[instrument].state))

    def blocked(self, instrument: int = QQQ) -> Reason:
        return Reason(int(self.player.state.positions[instrument].blocked))

    @property
    def alerts(self) -> list[Said]:
        return [Said(AlertKind(int(a.kind)), int(a.observed), int(a.limit)) for a in self.player.alerts]

    def check(self) -> None:
        state, account = self.player.state, self.player.account
        books = sum(int(p.book) for p in state.positions)
        start = int(self.player.config.account.cash * MICRO)
        assert int(account.cash) + books - int(account.realised) + int(account.fees) == start
        for i, position in enumerate(state.positions):
            held = [
                h
                for h, of in zip(state.holdings, self.player.rules.holdings, strict=True)
                if of.instrument == i
            ]
            assert sum(int(h.quantity) for h in held) == position.quantity
        rows = [n for name in ("orders", "decisions", "alerts") for n in self.player.table(name).sequence]
        assert sorted(rows) == list(range(account.sequence))
